#include <filesystem>

#include "absl/strings/numbers.h"
#include "base/text.h"
#include "nlohmann/json.hpp"
#include "tandem/commands.h"
#include "tandem/resize.h"

namespace tandem::cli {
namespace {

struct AddOptions {
  std::string name, path, format, label_column, resize;
  bool copy = false, upload = false;
};

std::string ShapeOf(const wire::Dataset& dataset) {
  return ToString(Shape(dataset.shape().begin(), dataset.shape().end()));
}

std::string DatasetText(const wire::Dataset& dataset, const Style& style) {
  std::string out = style.Bold(dataset.name()) + "\n";
  auto line = [&](std::string_view key, const std::string& value) {
    if (!value.empty()) StrAppend(&out, key, std::string(9 - key.size(), ' '), value, "\n");
  };
  line("path", dataset.path() + (dataset.copied() ? " (tandem's own copy)" : ""));
  line("format", dataset.format());
  line("samples", StrCat(Thousands(dataset.train()), " train, ", Thousands(dataset.val()), " val, ",
                         Thousands(dataset.test()), " test"));
  line("shape", ShapeOf(dataset));
  std::string names;
  for (const std::string& name : dataset.class_names()) StrAppend(&names, names.empty() ? ": " : ", ", name);
  line("classes", StrCat(dataset.classes(), names));
  line("size", HumanBytes(dataset.bytes()));
  line("sha256", dataset.sha256());
  line("created", Ago(dataset.created_ms(), NowUnixMillis()) +
                      (dataset.created_by().empty() ? "" : " by " + dataset.created_by()));
  return out;
}

absl::StatusOr<Exit> RunAdd(Session& session, const AddOptions& options) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::canonical(options.path, error);
  if (error) return NotFound("'", options.path, "': ", error.message());
  wire::AddDatasetRequest request;
  request.set_copy(options.copy);
  wire::Dataset& dataset = *request.mutable_dataset();
  dataset.set_name(options.name);
  dataset.set_format(options.format);
  dataset.set_label_column(options.label_column);
  if (!options.resize.empty()) {
    TANDEM_ASSIGN_OR_RETURN(auto size, ParseResize(options.resize));
    dataset.add_resize(size.first);
    dataset.add_resize(size.second);
  }
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  absl::StatusOr<wire::Dataset> added;
  if (client->on_this_machine() && !options.upload) {
    dataset.set_path(path.string());
    added = client->datasets().Add(request);
  } else {
    added = client->datasets().Upload(request, path.string());
  }
  TANDEM_RETURN_IF_ERROR(added.status());
  if (session.json) {
    session.PrintJson(*added);
  } else {
    session.Print(DatasetText(*added, session.style));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunList(Session& session) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::DatasetList list, client->datasets().List());
  if (session.json) {
    session.PrintJson(list);
    return Exit::kOk;
  }
  Table table({"DATASET", "FORMAT", "SHAPE", ">CLASSES", ">TRAIN", ">VAL", ">TEST", ">SIZE", "PATH"});
  for (const wire::Dataset& dataset : list.datasets()) {
    table.AddRow({dataset.name(), dataset.format(), ShapeOf(dataset), StrCat(dataset.classes()),
                  Thousands(dataset.train()), Thousands(dataset.val()), Thousands(dataset.test()),
                  HumanBytes(dataset.bytes()), dataset.path()});
  }
  session.Print(list.datasets_size() > 0 ? table.Render(session.style)
                                         : "no data sets; add one: tandem dataset add NAME PATH\n");
  return Exit::kOk;
}

absl::StatusOr<Exit> RunShow(Session& session, const std::string& name) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset dataset, client->datasets().Show(name));
  if (session.json) {
    session.PrintJson(dataset);
  } else {
    session.Print(DatasetText(dataset, session.style));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunDelete(Session& session, const std::string& name) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_RETURN_IF_ERROR(client->datasets().Delete(name));
  if (session.json) {
    session.PrintJsonText(nlohmann::json{{"dataset", name}, {"deleted", true}}.dump());
  } else {
    session.Print(StrCat("data set ", name, " deleted\n"));
  }
  return Exit::kOk;
}

}  // namespace

absl::StatusOr<std::pair<int32_t, int32_t>> ParseResize(const std::string& text) {
  size_t cross = text.find('x');
  int32_t height = 0, width = 0;
  bool numbers = cross != text.npos && absl::SimpleAtoi(text.substr(0, cross), &height) &&
                 absl::SimpleAtoi(text.substr(cross + 1), &width);
  if (!numbers || height < 1 || width < 1 || height > 16384 || width > 16384) {
    return Usage("--resize is '", text, "'; write HEIGHTxWIDTH, for example 32x32");
  }
  return std::pair(height, width);
}

void AddDatasetCommands(Command& root, Session& session) {
  Command& dataset = root.Add("dataset", "Data sets to train on");
  dataset.Example("dataset add fashion /usr/share/datasets/fashion-mnist").Example("dataset list");
  auto options = std::make_shared<AddOptions>();
  dataset.Add("add", "Register files where they are; a server elsewhere gets an upload")
      .Argument("NAME", &options->name, "Name to use in job specs")
      .Argument("PATH", &options->path, "Folder or file")
      .Option("--format", &options->format, "idx, images, csv or npy; guessed if absent")
      .Flag("--copy", &options->copy, "Copy the files into the server's own folder")
      .Flag("--upload", &options->upload, "Send the files even if the URL names this machine")
      .Option("--label-column", &options->label_column, "Name of the label column of a CSV file")
      .Option("--resize", &options->resize, "HEIGHTxWIDTH to resize images to; as the first image if absent")
      .Example("dataset add fashion /usr/share/datasets/fashion-mnist")
      .Example("dataset add pets ./photos --resize 64x64 --copy")
      .Example("dataset add iris iris.csv --label-column species")
      .Run([&session, options] { return RunAdd(session, *options); });
  dataset.Add("list", "All data sets").Example("dataset list").Run([&session] { return RunList(session); });
  auto name = std::make_shared<std::string>();
  dataset.Add("show", "Size, classes, split and hash of one")
      .Argument("NAME", name.get(), "Data set")
      .Example("dataset show fashion")
      .Run([&session, name] { return RunShow(session, *name); });
  dataset.Add("delete", "Forget a data set; only files that were copied or uploaded are removed")
      .Argument("NAME", name.get(), "Data set")
      .Example("dataset delete fashion")
      .Run([&session, name] { return RunDelete(session, *name); });
}

}  // namespace tandem::cli
