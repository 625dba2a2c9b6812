#pragma once
// Serving's own share of the CPU, held by admission: caps of the kernel do not bind real-time threads.
#include <algorithm>
#include <atomic>
#include <cstdint>

namespace tandem::serving {

// A bucket of CPU time. Whoever measures what the request threads really used settles it about every 20 ms; requests
// are admitted while it is not empty. What is overdrawn is paid back first, so that the mean is exact whatever the
// requests cost. Admit is wait-free and for any thread; Settle and SetLimit are for one other thread.
class CpuBudget {
 public:
  // CPUs' worth; 0 = no limit.
  void SetLimit(double cpus) {
    cpus_ = cpus;
    if (cpus <= 0) open_.store(true, std::memory_order_relaxed);
  }
  double limit() const { return cpus_; }

  bool Admit() const { return open_.load(std::memory_order_relaxed); }

  // `used_s` of CPU time went by in `elapsed_s`.
  void Settle(double elapsed_s, double used_s) {
    if (cpus_ <= 0) return;
    constexpr double kBurstSeconds = 0.05;  // what an idle side may save up
    saved_s_ = std::min(saved_s_ + cpus_ * elapsed_s - used_s, cpus_ * kBurstSeconds);
    open_.store(saved_s_ > 0, std::memory_order_relaxed);
  }

 private:
  std::atomic<bool> open_{true};
  double cpus_ = 0, saved_s_ = 0;  // of the settling thread
};

}  // namespace tandem::serving
