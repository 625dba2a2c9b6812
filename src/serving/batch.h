#pragma once
// Requests become one batch, and its outputs become theirs: row by row, copies of memory.
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "serving/serving.h"

namespace tandem::serving {

// One request's part of an input.
struct Piece {
  const void* data = nullptr;
  size_t byte_size = 0;
};

// Joins the pieces, one behind the other, and fills up with zeros (empty strings) to `rows` rows. `shape` is that of
// the result; its first dimension is set. `have` is the number of rows in the pieces. *view points into *memory.
void JoinPieces(const std::vector<Piece>& pieces, DType dtype, Shape shape, int64_t have, int64_t rows,
                AlignedBuffer* memory, engine::InputView* view);

// Where the rows of a tensor begin and end, in bytes.
class RowMap {
 public:
  // REQUIRES: the first dimension is `rows`. Internal when the bytes are not those of its shape.
  static absl::StatusOr<RowMap> Create(const Tensor& tensor, int64_t rows);
  size_t Offset(int64_t row) const { return offsets_.empty() ? row_bytes_ * row : offsets_[row]; }

 private:
  size_t row_bytes_ = 0;
  std::vector<size_t> offsets_;  // of strings
};

// FailedPrecondition unless the first dimension is `rows`: such a model cannot merge requests.
absl::Status CheckOutputRows(std::string_view what, const Tensor& output, int64_t rows);

// Copies rows [begin, begin + count) of `from` to `to`, whose memory is kept when it is large enough.
void CopyRows(const Tensor& from, const RowMap& map, int64_t begin, int64_t count, Tensor* to);

// Copies a whole tensor, likewise.
void CopyTensor(const Tensor& from, Tensor* to);

}  // namespace tandem::serving
