#pragma once
// What the loaded versions of a daemon share on the way of requests.
#include <atomic>
#include <cstdint>

#include "serving/executor.h"
#include "serving/response_cache.h"

namespace tandem::serving {

// Thread-safe. Outlives the versions.
struct DataPlane {
  DataPlane(int64_t cache_bytes, Clock* clock) : executor(clock), cache(cache_bytes) {}

  Executor executor;
  ResponseCache cache;
  std::atomic<uint64_t> loads{0};  // so far: numbers them
};

}  // namespace tandem::serving
