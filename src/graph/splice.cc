// New data into the file, all other bytes equal.
#include <cstring>

#include "base/status.h"
#include "graph/names.h"
#include "graph/rep.h"
#include "graph/wire.h"

namespace tandem::graph {
namespace {

// The pieces of the file that hold the initialiser's data as they are; empty if they are coded otherwise (as varints).
std::vector<Span> FixedPieces(const onnx::TensorProto& tensor, const TensorPlace& place, size_t size) {
  if (tensor.has_raw_data()) return {place.raw.back()};
  size_t total = 0;
  for (const Span& piece : place.fixed) total += piece.size;
  return total == size ? place.fixed : std::vector<Span>();
}

void Overwrite(std::string* file, const std::vector<Span>& pieces, std::string_view data) {
  for (const Span& piece : pieces) {
    std::memcpy(file->data() + piece.offset, data.data(), piece.size);
    data.remove_prefix(piece.size);
  }
}

// The initialiser with its data as raw_data.
std::string WithRawData(const onnx::TensorProto& tensor, std::string_view data) {
  onnx::TensorProto changed = tensor;
  changed.clear_int32_data();
  changed.clear_int64_data();
  changed.clear_uint64_data();
  changed.set_raw_data(data.data(), data.size());
  return changed.SerializeAsString();
}

}  // namespace

absl::StatusOr<std::string> Graph::Splice(const std::map<std::string, std::string>& values) const {
  std::string file = rep_->bytes;
  std::map<size_t, std::string> recoded;
  for (const auto& [name, data] : values) {
    const auto found = rep_->by_name.find(name);
    if (found == rep_->by_name.end())
      return NotFound("model ", Quote(rep_->source), " has no initialiser ", Quote(name));
    const size_t number = found->second;
    const Initializer& initializer = rep_->initializers[number];
    if (initializer.dtype == DType::kString || data.size() != initializer.data.size()) {
      return InvalidArgument("initialiser ", Quote(name), " ", ToString(initializer.shape), " of ",
                             ProtocolName(initializer.dtype), " takes ", initializer.data.size(), " bytes, not ",
                             data.size());
    }
    if (data.empty()) continue;
    const onnx::TensorProto& tensor = rep_->model.graph().initializer(static_cast<int>(number));
    const std::vector<Span> pieces = FixedPieces(tensor, rep_->places[number], data.size());
    if (!pieces.empty()) {
      Overwrite(&file, pieces, data);
    } else {
      recoded[number] = WithRawData(tensor, data);
    }
  }
  if (recoded.empty()) return file;
  return ReplaceInitializers(file, recoded);
}

}  // namespace tandem::graph
