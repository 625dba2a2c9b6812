#pragma once
// One run on zeros: touches every page and code path before the first request does.
#include "absl/status/status.h"
#include "engine/engine.h"

namespace tandem::engine {

// The first dimension is `rows` where it is unknown, other unknown ones are 1. A model that is too large for it (1 GiB
// of input) is left alone. An error may mean no more than that the model wants other sizes than 1: IsSizeGuessed tells
// whether a dimension after the first was unknown.
absl::Status WarmUp(const LoadedModel& model, Instance* instance, int64_t rows = 1);
bool IsSizeGuessed(const LoadedModel& model);

}  // namespace tandem::engine
