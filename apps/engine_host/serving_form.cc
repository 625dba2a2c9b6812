#include "serving_form.h"

#include <optional>
#include <string>

#include "base/files.h"
#include "base/status.h"
#include "engine/model_file.h"
#include "graph/rewrite.h"
#include "own_writes.h"

namespace {

namespace fs = std::filesystem;
namespace graph = tandem::graph;

// Nothing if the file itself is what shall be served.
std::optional<std::string> ServingForm(const fs::path& model) {
  absl::StatusOr<graph::Graph> file = graph::Graph::Load(model);
  if (!file.ok()) return std::nullopt;
  absl::StatusOr<graph::Graph> form = graph::ForServing(*file);
  if (!form.ok() || form->bytes() == file->bytes()) return std::nullopt;
  return std::string(form->bytes());
}

}  // namespace

namespace {

// What TensorFlow wrote, as its engine reads it.
absl::Status PrepareTensorFlow(tandem::engine::Engine& engine, std::string_view format, const fs::path& model,
                               const fs::path& folder, const tandem::engine::Options& options) {
  if (engine.name() != tandem::engine::kTensorFlowEngine) {
    return tandem::InvalidArgument("engine '", engine.name(), "' does not read TensorFlow's models (this is ", format,
                                   "); engine '", tandem::engine::kTensorFlowEngine, "' does");
  }
  std::error_code error;
  if (format != tandem::engine::kSavedModel || fs::is_directory(model, error)) {
    return engine.Prepare(model, folder, options);
  }
  const fs::path unpacked = folder / "unpacked";
  TANDEM_RETURN_IF_ERROR(tandem::MakeFolders(unpacked));
  absl::StatusOr<fs::path> root = tandem::engine::UnpackSavedModel(model, unpacked, OwnWrites());
  absl::Status status = root.ok() ? engine.Prepare(*root, folder, options) : root.status();
  fs::remove_all(unpacked, error);
  return status;
}

}  // namespace

absl::Status PrepareForServing(tandem::engine::Engine& engine, const fs::path& model, const fs::path& folder,
                               const tandem::engine::Options& options) {
  TANDEM_ASSIGN_OR_RETURN(std::string_view format, tandem::engine::FormatOf(model));
  if (format != tandem::engine::kOnnx) return PrepareTensorFlow(engine, format, model, folder, options);
  const std::optional<std::string> form = ServingForm(model);
  if (!form) return engine.Prepare(model, folder, options);
  const fs::path file = folder / "serving.onnx";
  TANDEM_RETURN_IF_ERROR(tandem::WriteFileAtomically(file, *form, OwnWrites()));
  absl::Status status = engine.Prepare(file, folder, options);
  std::error_code ignored;
  fs::remove(file, ignored);
  return status;
}
