#pragma once
// What the loaded versions of a daemon share on the way of requests.
#include <atomic>
#include <cstdint>

#include "base/waker.h"
#include "serving/executor.h"
#include "serving/response_cache.h"

namespace tandem::serving {

// Thread-safe. Outlives the versions.
struct DataPlane {
  DataPlane(int64_t cache_bytes, Clock* clock) : executor(clock), cache(cache_bytes) {}

  Executor executor;
  ResponseCache cache;
  std::atomic<uint64_t> loads{0};      // so far: numbers them
  std::atomic<int> instance_bound{0};  // of each version whose number of instances is open; 0 = none

  // Who changes the number of instances sleeps here. Starve: a request waits for an instance where there may be one
  // more. Wakes the sleeper once; who looks into it clears `starving`.
  Waker adjuster;
  std::atomic<bool> starving{false};
  void Starve() {
    if (!starving.load(std::memory_order_relaxed) && !starving.exchange(true)) adjuster.Signal();
  }
};

}  // namespace tandem::serving
