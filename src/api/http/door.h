#pragma once
// What all connections of a server share.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

#include "api/http/access.h"
#include "api/http/control_pool.h"
#include "api/http/router.h"
#include "api/http/server.h"
#include "base/clock.h"
#include "base/strings.h"

namespace tandem::api::http {

// Made before the threads start and outliving them; everything but the atomics is then constant.
struct Door {
  Door(const ServerSettings& s, const Services& v)
      : settings(s),
        services(v),
        quick("http-control", s.control_threads),
        slow("http-slow", kSlowThreads),
        waiting("http-waiting", kWaitingThreads) {}

  // A deploy holds one while it waits.
  static constexpr int kSlowThreads = 16;
  // A long poll holds one, and so does an upload, at a disk rate for hours: apart from what an operator does about it.
  static constexpr int kWaitingThreads = 32;
  // Large bodies held in memory at the same time, in largest bodies.
  static constexpr int kLargeBodies = 4;

  // Reserves memory for bodies; false when too much is in use. Paired with Release.
  bool Reserve(int64_t bytes) {
    if (body_bytes.fetch_add(bytes) + bytes <= kLargeBodies * settings.max_body_bytes) return true;
    body_bytes.fetch_sub(bytes);
    return false;
  }
  void Release(int64_t bytes) { body_bytes.fetch_sub(bytes); }

  // For requests that brought none: unique in this process, told apart from another one's by its start.
  std::string NextRequestId() { return StrCat(started_ms, "-", requests.fetch_add(1)); }

  // REQUIRES: neither Plane::kInfer nor kAtOnce.
  ControlPool& PoolOf(Plane plane) {
    if (plane == Plane::kQuick) return quick;
    return plane == Plane::kSlow ? slow : waiting;
  }

  void Enter() { connections.fetch_add(1); }
  void Leave() {
    if (connections.fetch_sub(1) != 1 || !stopping.load()) return;
    std::lock_guard lock(mutex);
    empty.notify_all();
  }
  // REQUIRES: stopping. True when all connections ended in time.
  bool WaitUntilEmpty(double seconds) {
    std::unique_lock lock(mutex);
    return empty.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return connections.load() == 0; });
  }

  const ServerSettings settings;
  const Services services;
  const Router router;
  ControlPool quick, slow, waiting;
  std::atomic<bool> stopping = false;
  std::atomic<int> connections = 0;
  std::atomic<int64_t> body_bytes = 0;
  std::atomic<uint64_t> requests = 1;
  const int64_t started_ms = Clock::Real()->UnixMillis();
  std::mutex mutex;  // only to wait for the end
  std::condition_variable empty;
};

// One listening address.
struct Port {
  AccessPolicy policy;
  bool metrics_only = false;
};

}  // namespace tandem::api::http
