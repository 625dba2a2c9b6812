#include "engine/warm_up.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace tandem::engine {
namespace {

constexpr int64_t kEmptyStringBytes = 4;  // the length, 0

}  // namespace

absl::Status WarmUp(const LoadedModel& model, Instance* instance, int64_t rows) {
  std::vector<AlignedBuffer> inputs;
  std::vector<Tensor> outputs;
  return WarmUp(model, instance, rows, kMaxWarmUpBytes, &inputs, &outputs);
}

absl::Status WarmUp(const LoadedModel& model, Instance* instance, int64_t rows, int64_t max_bytes,
                    std::vector<AlignedBuffer>* inputs, std::vector<Tensor>* outputs) {
  inputs->resize(model.inputs().size());
  std::vector<InputView> views;
  int64_t total = 0;
  for (const TensorSignature& input : model.inputs()) {
    Shape shape = input.shape;
    if (!shape.empty() && shape[0] == -1) shape[0] = rows;
    std::replace(shape.begin(), shape.end(), int64_t{-1}, int64_t{1});
    TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(shape));
    if (elements > max_bytes) return absl::OkStatus();
    int64_t element_bytes =
        input.dtype == DType::kString ? kEmptyStringBytes : static_cast<int64_t>(ByteSize(input.dtype));
    size_t bytes = elements * element_bytes;
    total += bytes;
    if (total > max_bytes) return absl::OkStatus();
    AlignedBuffer& buffer = (*inputs)[views.size()];
    buffer.Resize(bytes);
    if (bytes > 0) std::memset(buffer.data(), 0, bytes);
    views.push_back({input.dtype, std::move(shape), buffer.data(), bytes});
  }
  return Annotate(instance->Run(views, outputs),
                  StrCat("warm-up on ", rows, rows == 1 ? " row" : " rows", " of zeros"));
}

bool IsSizeGuessed(const LoadedModel& model) {
  return std::any_of(model.inputs().begin(), model.inputs().end(), [](const TensorSignature& input) {
    return input.shape.size() > 1 && std::find(input.shape.begin() + 1, input.shape.end(), -1) != input.shape.end();
  });
}

}  // namespace tandem::engine
