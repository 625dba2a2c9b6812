#include "serving/batch.h"

#include <cstring>

#include "base/status.h"

namespace tandem::serving {
namespace {

constexpr size_t kEmptyStringBytes = sizeof(uint32_t);

// Of a shape whose dimensions are known.
int64_t ElementsOfRow(const Shape& shape) {
  int64_t elements = 1;
  for (size_t i = 1; i < shape.size(); ++i) elements *= shape[i];
  return elements;
}

}  // namespace

void JoinPieces(const std::vector<Piece>& pieces, DType dtype, Shape shape, int64_t have, int64_t rows,
                AlignedBuffer* memory, engine::InputView* view) {
  size_t element_bytes = dtype == DType::kString ? kEmptyStringBytes : ByteSize(dtype);
  size_t padding = static_cast<size_t>((rows - have) * ElementsOfRow(shape)) * element_bytes;
  size_t total = padding;
  for (const Piece& piece : pieces) total += piece.byte_size;
  memory->Resize(total);
  std::byte* at = memory->data();
  for (const Piece& piece : pieces) {
    if (piece.byte_size > 0) std::memcpy(at, piece.data, piece.byte_size);
    at += piece.byte_size;
  }
  if (padding > 0) std::memset(at, 0, padding);
  if (!shape.empty()) shape[0] = rows;
  view->dtype = dtype;
  view->shape = std::move(shape);
  view->data = memory->data();
  view->byte_size = total;
}

absl::StatusOr<RowMap> RowMap::Create(const Tensor& tensor, int64_t rows) {
  RowMap map;
  const int64_t per_row = ElementsOfRow(tensor.shape);
  if (tensor.dtype != DType::kString) {
    map.row_bytes_ = static_cast<size_t>(per_row) * ByteSize(tensor.dtype);
    if (map.row_bytes_ * rows == tensor.buffer.size()) return map;
    return Internal("output '", tensor.name, "' has ", tensor.buffer.size(), " bytes, not those of its shape ",
                    ToString(tensor.shape));
  }
  const std::byte* bytes = tensor.buffer.data();
  size_t at = 0;
  map.offsets_.reserve(rows + 1);
  map.offsets_.push_back(0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < per_row; ++i) {
      uint32_t length = 0;
      if (tensor.buffer.size() - at < sizeof length) return Internal("output '", tensor.name, "' ends in an element");
      std::memcpy(&length, bytes + at, sizeof length);
      at += sizeof length;
      if (tensor.buffer.size() - at < length) return Internal("output '", tensor.name, "' ends in an element");
      at += length;
    }
    map.offsets_.push_back(at);
  }
  return map;
}

absl::Status CheckOutputRows(std::string_view what, const Tensor& output, int64_t rows) {
  if (!output.shape.empty() && output.shape[0] == rows) return absl::OkStatus();
  return FailedPrecondition(what, ": output '", output.name, "' has shape ", ToString(output.shape), " for ", rows,
                            rows == 1 ? " row" : " rows",
                            " of input, so its requests cannot be merged; set max_batch_size: 0");
}

void CopyRows(const Tensor& from, const RowMap& map, int64_t begin, int64_t count, Tensor* to) {
  if (to->name != from.name) to->name = from.name;
  to->dtype = from.dtype;
  to->shape = from.shape;
  to->shape[0] = count;
  size_t offset = map.Offset(begin), size = map.Offset(begin + count) - offset;
  to->buffer.Resize(size);
  if (size > 0) std::memcpy(to->buffer.data(), from.buffer.data() + offset, size);
}

void CopyTensor(const Tensor& from, Tensor* to) {
  if (to->name != from.name) to->name = from.name;
  to->dtype = from.dtype;
  to->shape = from.shape;
  to->buffer.Resize(from.buffer.size());
  if (from.buffer.size() > 0) std::memcpy(to->buffer.data(), from.buffer.data(), from.buffer.size());
}

}  // namespace tandem::serving
