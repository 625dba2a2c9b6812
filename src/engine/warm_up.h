#pragma once
// One run on zeros: touches every page and code path before the first request does.
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"

namespace tandem::engine {

inline constexpr int64_t kMaxWarmUpBytes = int64_t{1} << 30;

// The first dimension is `rows` where it is unknown, other unknown ones are 1. A model that is too large for it
// (kMaxWarmUpBytes of input) is left alone. An error may mean no more than that the model wants other sizes than 1:
// IsSizeGuessed tells whether a dimension after the first was unknown.
absl::Status WarmUp(const LoadedModel& model, Instance* instance, int64_t rows = 1);
// The same on memory that later runs will use too, which it makes large enough; left alone above `max_bytes` of input.
absl::Status WarmUp(const LoadedModel& model, Instance* instance, int64_t rows, int64_t max_bytes,
                    std::vector<AlignedBuffer>* inputs, std::vector<Tensor>* outputs);
bool IsSizeGuessed(const LoadedModel& model);

}  // namespace tandem::engine
