#include "training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tandem::training {
namespace {

constexpr double kOneCycleStart = 1.0 / 25;

// From `start` at t = 0 to `end` at t = 1, flat at both ends.
double CosineBetween(double start, double end, double t) {
  return end + (start - end) / 2 * (1 + std::cos(std::numbers::pi * t));
}

double OneCycle(const spec::ScheduleSpec& schedule, double peak, int64_t step, int64_t steps) {
  double last = std::max<double>(1, static_cast<double>(steps - 1));
  double top = std::clamp(schedule.warmup_fraction * static_cast<double>(steps) - 1, 0.0, last);
  double at = static_cast<double>(step);
  if (at < top) return CosineBetween(peak * kOneCycleStart, peak, at / top);
  if (top >= last) return peak;
  return CosineBetween(peak, peak * schedule.final_fraction, std::min(1.0, (at - top) / (last - top)));
}

}  // namespace

double LearningRate(const spec::ScheduleSpec& schedule, double peak, int64_t step, int64_t steps) {
  if (schedule.name == "one_cycle") return OneCycle(schedule, peak, step, steps);
  int64_t warmup = std::llround(schedule.warmup_fraction * static_cast<double>(steps));
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  if (schedule.name == "constant") return peak;
  double t = static_cast<double>(step - warmup) / static_cast<double>(std::max<int64_t>(1, steps - warmup));
  return CosineBetween(peak, peak * schedule.final_fraction, std::min(1.0, t));
}

}  // namespace tandem::training
