#include "serving_form.h"

#include <optional>
#include <string>

#include "base/files.h"
#include "base/status.h"
#include "graph/rewrite.h"

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

absl::Status PrepareForServing(tandem::engine::Engine& engine, const fs::path& model, const fs::path& folder,
                               const tandem::engine::Options& options) {
  const std::optional<std::string> form = ServingForm(model);
  if (!form) return engine.Prepare(model, folder, options);
  const fs::path file = folder / "serving.onnx";
  TANDEM_RETURN_IF_ERROR(tandem::WriteFileAtomically(file, *form));
  absl::Status status = engine.Prepare(file, folder, options);
  std::error_code ignored;
  fs::remove(file, ignored);
  return status;
}
