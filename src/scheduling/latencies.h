#pragma once
// Latencies counted in steps of 5 % around a target. Internal to the simulator.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace tandem::scheduling {

constexpr int kLatencyBuckets = 256;
// Upper edge of this bucket = the target, so that "p99 <= target" is exact.
constexpr int kTargetBucket = 128;

class LatencyScale {
 public:
  explicit LatencyScale(double target_ms) : target_ms_(target_ms) {}
  int BucketOf(double ms) const {
    const double steps = std::ceil(std::log(ms / target_ms_) / kLogStep);
    return static_cast<int>(std::clamp(steps + kTargetBucket, 0.0, kLatencyBuckets - 1.0));
  }
  double UpperEdgeMs(int bucket) const { return target_ms_ * std::exp((bucket - kTargetBucket) * kLogStep); }

 private:
  static constexpr double kLogStep = 0.04879016416943205;  // log(1.05)
  double target_ms_;
};

// Counts by bucket. T is a whole number, or double where samples are scaled up.
template <typename T>
struct LatencyCounts {
  std::array<T, kLatencyBuckets> counts{};
  T total = 0;

  void Add(int bucket, T n) {
    counts[bucket] += n;
    total += n;
  }
  // The bucket below whose upper edge are at least `part` of all; 0 if there are none.
  int QuantileBucket(double part) const {
    double left = part * static_cast<double>(total);
    for (int bucket = 0; bucket < kLatencyBuckets; ++bucket) {
      left -= static_cast<double>(counts[bucket]);
      if (left <= 1e-9 && counts[bucket] > 0) return bucket;
    }
    return 0;
  }
};

}  // namespace tandem::scheduling
