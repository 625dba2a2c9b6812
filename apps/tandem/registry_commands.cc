#include <filesystem>
#include <map>

#include "absl/strings/numbers.h"
#include "base/text.h"
#include "nlohmann/json.hpp"
#include "spec/train_spec.h"
#include "tandem/commands.h"
#include "tandem/external_data.h"
#include "tandem/model_text.h"
#include "tandem/programs.h"
#include "tandem/serving_commands.h"
#include "tandem/temporary_folder.h"

namespace tandem::cli {
namespace {

constexpr char kReferenceHelp[] = "NAME, NAME@ALIAS or NAME/VERSION";

absl::StatusOr<spec::ModelRef> ParseReference(const std::string& text) {
  absl::StatusOr<spec::ModelRef> ref = spec::ParseModelRef(text);
  if (!ref.ok()) return Usage(MessageOf(ref.status()));
  return ref;
}

// The alias a bare name stands for.
constexpr std::string_view kChampion = "champion";

absl::StatusOr<Exit> RunList(Session& session) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::ModelList list, client->models().List());
  if (session.json) {
    session.PrintJson(list);
    return Exit::kOk;
  }
  Table table({"MODEL", ">VERSIONS", ">CHAMPION", "STATE", "METRICS", "CREATED"});
  for (const wire::Model& model : list.models()) {
    auto champion = model.aliases().find(std::string(kChampion));
    int32_t number = champion == model.aliases().end() ? 0 : champion->second;
    // The newest where there is no champion: it may be served all the same, as the repository's are.
    wire::ModelVersion shown;
    if (model.versions_size() > 0) shown = model.versions(model.versions_size() - 1);
    for (const wire::ModelVersion& version : model.versions()) {
      if (version.version() == number) shown = version;
    }
    table.AddRow({model.name(), StrCat(model.versions_size()), number > 0 ? StrCat(number) : "-",
                  shown.state().empty() ? "-" : session.style.State(shown.state()), MetricsOf(shown),
                  Ago(model.created_ms(), NowUnixMillis())});
  }
  session.Print(list.models_size() > 0 ? table.Render(session.style)
                                       : "no models; train one, or: tandem models import NAME FILE.onnx\n");
  return Exit::kOk;
}

absl::StatusOr<Exit> RunShow(Session& session, const std::string& name) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::Model model, client->models().Show(name));
  if (session.json) {
    session.PrintJson(model);
  } else {
    session.Print(ModelText(model, NowUnixMillis(), session.style));
  }
  return Exit::kOk;
}

void PrintVersion(Session& session, const wire::ModelVersion& version, std::string_view done) {
  if (session.json) return session.PrintJson(version);
  std::string name = session.style.Bold(StrCat(version.model(), "/", version.version()));
  std::string aliases = AliasesOf(version);
  session.Print(StrCat(done, " ", name, aliases.empty() ? "" : " (" + aliases + ")", "\n"));
}

// ONNX files with data beside them are made one first: the server gets a single file, or the folder of a SavedModel.
absl::StatusOr<wire::ModelVersion> Import(client::Client& client, const std::string& name, const std::string& file,
                                          const std::string& precision) {
  const std::filesystem::path path(file);
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    if (std::filesystem::exists(path / "saved_model.pb", error))
      return client.models().Import(name, file, file, precision);
    return InvalidArgument("'", file, "' is a folder without saved_model.pb; name a model's file, or the folder of a ",
                           "TensorFlow SavedModel");
  }
  const bool tensorflow = path.extension() == ".tflite" || path.extension() == ".pb";
  TANDEM_ASSIGN_OR_RETURN(bool external, tensorflow ? absl::StatusOr<bool>(false) : HasExternalData(file));
  if (!external) return client.models().Import(name, file, file, precision);
  TANDEM_ASSIGN_OR_RETURN(TemporaryFolder folder, TemporaryFolder::Create());
  std::string joined = folder.path() + "/joined.onnx";
  TANDEM_ASSIGN_OR_RETURN(ProgramResult result,
                          RunProgram("tandem-engine-host", {"model", "join", file, "--out", joined}));
  if (result.exit_code != 0)
    return InvalidArgument("joining '", file, "' with its external data failed: ", ErrorText(result));
  return client.models().Import(name, joined, file, precision);
}

absl::StatusOr<Exit> RunImport(Session& session, const std::string& name, const std::string& file,
                               const std::string& precision) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, Import(*client, name, file, precision));
  PrintVersion(session, version, "imported");
  if (!session.json) {
    session.Print(StrCat("serve it: tandem models deploy ", version.model(), "/", version.version(), "\n"));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunDeploy(Session& session, const std::string& reference, const std::string& why) {
  TANDEM_ASSIGN_OR_RETURN(spec::ModelRef ref, ParseReference(reference));
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  wire::DeployRequest request;
  request.set_model(ref.name);
  request.set_alias(ref.alias);
  request.set_version(ref.version);
  request.set_why(why);
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, client->models().Deploy(request));
  PrintVersion(session, version, "serving");
  return Exit::kOk;
}

absl::StatusOr<Exit> RunRollback(Session& session, const std::string& name) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, client->models().RollBack(name));
  PrintVersion(session, version, "serving again");
  return Exit::kOk;
}

absl::StatusOr<Exit> RunAlias(Session& session, const wire::SetAliasRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_RETURN_IF_ERROR(client->models().SetAlias(request));
  if (session.json) {
    session.PrintJson(request);
  } else if (request.version() == 0) {
    session.Print(StrCat("removed ", request.model(), "@", request.alias(), "\n"));
  } else {
    session.Print(StrCat(request.model(), "@", request.alias(), " is version ", request.version(), " now\n"));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunExport(Session& session, const std::string& reference, const std::string& out) {
  TANDEM_ASSIGN_OR_RETURN(spec::ModelRef ref, ParseReference(reference));
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(int64_t bytes, client->models().Export(ref.name, ref.alias, ref.version, out));
  if (session.json) {
    session.PrintJsonText(nlohmann::json{{"model", ref.name}, {"file", out}, {"bytes", bytes}}.dump());
  } else {
    session.Print(StrCat(out, ": ", HumanBytes(bytes), "\n"));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunDelete(Session& session, const std::string& reference) {
  TANDEM_ASSIGN_OR_RETURN(spec::ModelRef ref, ParseReference(reference));
  if (!ref.alias.empty())
    return Usage("say NAME (all versions) or NAME/VERSION: an alias may move before it is deleted");
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_RETURN_IF_ERROR(client->models().Delete(ref.name, ref.version));
  if (session.json) {
    session.PrintJsonText(nlohmann::json{{"model", ref.name}, {"version", ref.version}, {"deleted", true}}.dump());
  } else {
    session.Print(StrCat(reference, " deleted\n"));
  }
  return Exit::kOk;
}

struct Options {
  std::string name, reference, file, out, why, alias, version, precision = "f32";
};

void AddAlias(Command& models, Session& session, const std::shared_ptr<Options>& options) {
  models.Add("alias", "Point an alias at a version")
      .Argument("NAME", &options->name, "Model")
      .Argument("ALIAS", &options->alias, "champion, challenger, or any other name")
      .Argument("VERSION", &options->version, "Number; 0 removes the alias")
      .Option("--why", &options->why, "Reason for the history")
      .Example("models alias fashion challenger 3")
      .Run([&session, options]() -> absl::StatusOr<Exit> {
        wire::SetAliasRequest request;
        request.set_model(options->name);
        request.set_alias(options->alias);
        request.set_why(options->why);
        int32_t version = -1;
        if (!absl::SimpleAtoi(options->version, &version) || version < 0) {
          return Usage("VERSION is '", options->version, "'; it must be a number, or 0 to remove the alias");
        }
        request.set_version(version);
        return RunAlias(session, request);
      });
}

void AddRollback(Command& parent, const std::string& prefix, Session& session,
                 const std::shared_ptr<Options>& options) {
  parent.Add("rollback", "Serve the version before the present champion again, at once")
      .Argument("MODEL", &options->name, "Model")
      .Example(prefix + "rollback fashion")
      .Run([&session, options] { return RunRollback(session, options->name); });
}

}  // namespace

void AddRegistryCommands(Command& root, Session& session) {
  auto options = std::make_shared<Options>();
  Command& models = root.Add("models", "Registered models, their versions and aliases");
  models.Example("models list")
      .Example("models import fashion model.onnx")
      .Example("models canary fashion 3 --percent 10");
  models.Add("list", "All models").Example("models list").Run([&session] { return RunList(session); });
  models.Add("show", "Versions, configuration, canary, approvals, engines and the history of a model")
      .Argument("NAME", &options->name, "Model")
      .Example("models show fashion")
      .Run([&session, options] { return RunShow(session, options->name); });
  models.Add("import", "Register an ONNX file (data files beside it are joined) or a TensorFlow model as a new version")
      .Argument("NAME", &options->name, "Model")
      .Argument("FILE", &options->file, "ONNX file, .tflite, frozen .pb, or the folder of a SavedModel")
      .Option("--precision", &options->precision, "f32 (default), bf16 or f16: what the version is served in")
      .Example("models import fashion model.onnx")
      .Example("models import flowers exported/saved_model")
      .Run([&session, options] { return RunImport(session, options->name, options->file, options->precision); });
  models.Add("deploy", "Load a version, make it champion, wait until it serves")
      .Argument("MODEL", &options->reference, kReferenceHelp)
      .Option("--why", &options->why, "Reason for the history")
      .Example("models deploy fashion/3")
      .Example("models deploy fashion@challenger --why 'better on new data'")
      .Run([&session, options] { return RunDeploy(session, options->reference, options->why); });
  AddRollback(models, "models ", session, options);
  AddServingCommands(models, session);
  AddAlias(models, session, options);
  models.Add("export", "Write a version's file; of a SavedModel a tar of its folder")
      .Argument("MODEL", &options->reference, kReferenceHelp)
      .Option("--out", &options->out, "File to write")
      .Example("models export fashion@champion --out fashion.onnx")
      .Run([&session, options]() -> absl::StatusOr<Exit> {
        if (options->out.empty()) return Usage("--out FILE is missing");
        return RunExport(session, options->reference, options->out);
      });
  models.Add("delete", "Delete a version, or the whole model; refused while in use")
      .Argument("MODEL", &options->reference, "NAME or NAME/VERSION")
      .Example("models delete fashion/1")
      .Run([&session, options] { return RunDelete(session, options->reference); });
  AddRollback(root, "", session, options);
}

}  // namespace tandem::cli
