#pragma once
// Where the requests of a model go that name no version: to the version that serves, a part of them to a canary; and of
// which a copy goes to a shadow.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "serving/serving.h"
#include "serving/shadow.h"
#include "telemetry/metrics.h"

namespace tandem::serving {

// 0..9999, the same for the same model and key on every machine and at all times: FNV-1a (64 bits) over the model's
// name, a zero byte and the key, finished with the mixer of MurmurHash3. A key below the canary's share goes to the
// canary, so those keys stay there when the share grows.
constexpr uint32_t kBuckets = 10000;
uint32_t BucketOf(std::string_view model, std::string_view key);

// What a canary is judged by, of requests that the router sent. Wait-free.
struct CanaryFigures {
  struct Side {
    Counter requests, failures;
    Histogram duration_us{LatencyBoundsMicros()};
  };
  int64_t began_nanos = 0;
  Side champion, canary;
};

// Immutable but for the figures, which outlive it. Thread-safe and wait-free.
class Router {
 public:
  struct Parts {
    std::string model;
    Split split;
    ModelHandle champion, canary, shadow;           // null while there is none to use; the problem says why
    std::shared_ptr<CanaryFigures> canary_figures;  // null = the split has no canary
    std::shared_ptr<ShadowFigures> shadow_figures;  // null = the split has no shadow
    int64_t shadow_began_nanos = 0;
    std::string canary_problem, shadow_problem;
    std::shared_ptr<ShadowQueue> shadow_queue;
    const Clock* clock = nullptr;
  };
  explicit Router(Parts parts);

  // Whether requests need to ask it at all.
  bool active() const { return parts_.canary != nullptr || parts_.shadow != nullptr; }

  // One request's way. Begin when it is about to be submitted, to `handle`; End once it was answered.
  struct Trip {
    ModelHandle handle;
    int64_t began_nanos = 0;
    std::unique_ptr<ShadowCopy> copy;
  };
  // REQUIRES: active().
  Trip Begin(const Request& request) const;
  void End(const Request& request, Trip* trip) const;

  // NotFound if the split has none.
  absl::StatusOr<CanaryReport> ReadCanary() const;
  absl::StatusOr<ShadowReport> ReadShadow() const;
  const std::string& canary_problem() const { return parts_.canary_problem; }
  const std::string& shadow_problem() const { return parts_.shadow_problem; }
  const Split& split() const { return parts_.split; }

 private:
  const Parts parts_;
  const uint32_t canary_share_, shadow_share_;  // of kBuckets
};

// What stays of a model's split while its versions come and go.
struct SplitHistory {
  int32_t canary_champion = 0, canary = 0, shadow_champion = 0, shadow = 0;  // whom the figures are about
  std::shared_ptr<CanaryFigures> canary_figures;
  std::shared_ptr<ShadowFigures> shadow_figures;
  int64_t shadow_began_nanos = 0;
};

// Makes routers. Thread-compatible: the owner's lock guards it.
class RouterMaker {
 public:
  // All outlive it.
  RouterMaker(Metrics* metrics, const Clock* clock, std::shared_ptr<ShadowQueue> queue)
      : metrics_(metrics), clock_(clock), queue_(std::move(queue)) {}

  // A version of the split and how it stands now.
  struct Side {
    ModelHandle handle;  // null unless READY
    std::string why;     // it has no handle
  };
  // Null when the split is empty. A split whose versions are not ready, or do not take and give the same as the
  // champion, is refused: the router then tells why and changes no request's way.
  std::shared_ptr<const Router> Make(const std::string& model, const Split& split, const Side& champion,
                                     const Side& canary, const Side& shadow, SplitHistory* history) const;

 private:
  Metrics* const metrics_;
  const Clock* const clock_;
  const std::shared_ptr<ShadowQueue> queue_;
};

}  // namespace tandem::serving
