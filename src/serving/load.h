#pragma once
// The steps of one load: prepare if needed, make room in memory, load, make instances, warm. Runs on the loader's
// thread.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "serving/data_plane.h"
#include "serving/serving.h"
#include "serving/slots.h"

namespace tandem::serving {

struct LoadContext {
  const ServingSettings& settings;
  const engine::SpawnFunction& spawn;
  Clock* clock;
  std::shared_ptr<VersionMetrics> metrics;
  std::function<absl::Status(const Slots::Task&, int64_t bytes)> reserve;  // makes room, or says why there is none
  std::function<bool(int64_t bytes)> fits;                                 // there is room already
  DataPlane* plane;
};

// Whether its engine gets a process of its own.
bool RunsInChild(const DesiredVersion& spec);

LoadResult LoadVersion(const Slots::Task& task, const LoadContext& context);

// What a version takes and gives its clients, as it was found when it was prepared; null if it was not.
std::shared_ptr<const LazySignature> ReadSignature(const std::string& model, const DesiredVersion& spec);

}  // namespace tandem::serving
