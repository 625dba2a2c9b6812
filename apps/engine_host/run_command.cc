#include "run_command.h"

#include <stdlib.h>

#include <filesystem>
#include <memory>

#include "absl/strings/str_join.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "data/dataset.h"
#include "graph/graph.h"
#include "serving_form.h"

namespace {

namespace fs = std::filesystem;
using tandem::Tensor;
using tandem::TensorSignature;
using tandem::engine::Engine;
using tandem::engine::InputView;
using tandem::engine::LoadedModel;

// Removed with all that is in it.
class ScratchFolder {
 public:
  static absl::StatusOr<std::unique_ptr<ScratchFolder>> Create() {
    std::string path = (fs::temp_directory_path() / "tandem-model-run-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) return tandem::ErrnoStatus(errno, tandem::StrCat("mkdtemp '", path, "'"));
    return std::unique_ptr<ScratchFolder>(new ScratchFolder(path));
  }
  ~ScratchFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  const fs::path& path() const { return path_; }

 private:
  explicit ScratchFolder(fs::path path) : path_(std::move(path)) {}
  fs::path path_;
};

// input_0.pb, input_1.pb, ... in signature order; they may carry no name.
absl::StatusOr<std::vector<Tensor>> ReadFolder(const fs::path& folder, const std::vector<TensorSignature>& signature) {
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < signature.size(); ++i) {
    fs::path file = folder / tandem::StrCat("input_", i, ".pb");
    TANDEM_ASSIGN_OR_RETURN(std::string bytes, tandem::ReadFile(file));
    absl::StatusOr<Tensor> tensor = tandem::graph::ReadTensorProto(bytes);
    if (!tensor.ok()) return tandem::Annotate(tensor.status(), file.string());
    tensor->name = signature[i].name;
    tensors.push_back(std::move(*tensor));
  }
  return tensors;
}

absl::StatusOr<std::vector<Tensor>> ReadNpzFile(const fs::path& file) {
  TANDEM_ASSIGN_OR_RETURN(std::string bytes, tandem::ReadFile(file));
  absl::StatusOr<std::vector<Tensor>> tensors = tandem::data::ReadNpz(bytes);
  if (!tensors.ok()) return tandem::Annotate(tensors.status(), file.string());
  return tensors;
}

absl::Status CheckNames(const std::vector<Tensor>& tensors, const std::vector<TensorSignature>& signature) {
  std::vector<std::string> wanted;
  for (const TensorSignature& input : signature) wanted.push_back(input.name);
  for (const Tensor& tensor : tensors) {
    if (std::find(wanted.begin(), wanted.end(), tensor.name) != wanted.end()) continue;
    return tandem::InvalidArgument("the model has no input '", tensor.name, "'; its inputs are ",
                                   absl::StrJoin(wanted, ", "), tandem::DidYouMean(tensor.name, wanted));
  }
  return absl::OkStatus();
}

// Views in signature order.
absl::StatusOr<std::vector<InputView>> Match(const std::vector<Tensor>& tensors,
                                             const std::vector<TensorSignature>& signature) {
  TANDEM_RETURN_IF_ERROR(CheckNames(tensors, signature));
  std::vector<InputView> views;
  for (const TensorSignature& input : signature) {
    auto found = std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& t) { return t.name == input.name; });
    if (found == tensors.end()) return tandem::InvalidArgument("input '", input.name, "' is missing");
    if (found->dtype != input.dtype) {
      return tandem::InvalidArgument("input '", input.name, "' is ", tandem::ProtocolName(found->dtype), ", must be ",
                                     tandem::ProtocolName(input.dtype));
    }
    views.push_back({found->dtype, found->shape, found->buffer.data(), found->buffer.size()});
  }
  return views;
}

}  // namespace

absl::Status RunModel(const RunArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(Engine * engine, tandem::engine::OpenEngine(arguments.engine));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<ScratchFolder> scratch, ScratchFolder::Create());
  TANDEM_RETURN_IF_ERROR(PrepareForServing(*engine, arguments.model, scratch->path(), arguments.options));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model, engine->Load(scratch->path(), arguments.options));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<tandem::engine::Instance> instance, model->MakeInstance());
  absl::StatusOr<std::vector<Tensor>> tensors = fs::is_directory(arguments.inputs)
                                                    ? ReadFolder(arguments.inputs, model->inputs())
                                                    : ReadNpzFile(arguments.inputs);
  if (!tensors.ok()) return tensors.status();
  TANDEM_ASSIGN_OR_RETURN(std::vector<InputView> views, Match(*tensors, model->inputs()));
  std::vector<Tensor> outputs;
  TANDEM_RETURN_IF_ERROR(instance->Run(views, &outputs));
  return tandem::WriteFileAtomically(arguments.out, tandem::data::WriteNpz(outputs));
}
