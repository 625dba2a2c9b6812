#pragma once
// Serving's own share of the CPU, held by admission: caps of the kernel do not bind real-time threads.
#include <algorithm>
#include <atomic>
#include <cstdint>

namespace tandem::serving {

// A bucket of CPU time. Whoever measures what the request threads really used settles it about every 20 ms; requests
// are admitted while it is not empty, those of more urgent models also while it is a little overdrawn, so that the
// least urgent are refused first. What is overdrawn is paid back first, so that the mean is exact whatever the requests
// cost. Admit is wait-free and for any thread; Settle and SetLimit are for one other thread.
class CpuBudget {
 public:
  static constexpr int kLeastUrgent = 10;  // a model's priority; 1 is most urgent

  // CPUs' worth; 0 = no limit.
  void SetLimit(double cpus) {
    cpus_ = cpus;
    if (cpus <= 0) admitted_.store(kLeastUrgent, std::memory_order_relaxed);
  }
  double limit() const { return cpus_; }

  bool Admit(int priority = kLeastUrgent) const { return priority <= admitted_.load(std::memory_order_relaxed); }

  // `used_s` of CPU time went by in `elapsed_s`.
  void Settle(double elapsed_s, double used_s) {
    if (cpus_ <= 0) return;
    constexpr double kBurstSeconds = 0.05;  // what an idle side may save up, and the most urgent may overdraw
    const double burst_s = cpus_ * kBurstSeconds;
    saved_s_ = std::min(saved_s_ + cpus_ * elapsed_s - used_s, burst_s);
    const double overdrawn = saved_s_ > 0 ? 0 : std::min(1.0, -saved_s_ / burst_s);
    // Empty: from all but the least urgent down to none.
    constexpr int kMore = kLeastUrgent - 1;
    const int admitted = saved_s_ > 0 ? kLeastUrgent : kMore - static_cast<int>(overdrawn * kMore);
    admitted_.store(admitted, std::memory_order_relaxed);
  }

 private:
  std::atomic<int> admitted_{kLeastUrgent};  // the least urgent priority that is let in; 0 = none
  double cpus_ = 0, saved_s_ = 0;            // of the settling thread
};

}  // namespace tandem::serving
