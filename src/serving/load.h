#pragma once
// The steps of one load: prepare if needed, check memory, load, make instances, warm. Runs on the loader's thread.
#include <vector>

#include "serving/serving.h"
#include "serving/slots.h"

namespace tandem::serving {

struct LoadContext {
  const ServingSettings& settings;
  const engine::SpawnFunction& spawn;
  Clock* clock;
  std::shared_ptr<VersionMetrics> metrics;
  std::vector<VersionStatus> in_memory;  // when the load began
};

LoadResult LoadVersion(const Slots::Task& task, const LoadContext& context);

}  // namespace tandem::serving
