#pragma once
// What measurements are summed up with: quantiles, medians, a bootstrap interval. Pure.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace tandem::cli {

// The q-quantile of sorted values: the value that the fraction q of them lies below (no interpolation, so that it was
// really measured); 0 when there are none.
template <typename T>
T Quantile(const std::vector<T>& sorted, double q) {
  if (sorted.empty()) return T{0};
  size_t index = static_cast<size_t>(q * static_cast<double>(sorted.size()));
  return sorted[std::min(sorted.size() - 1, index)];
}

// The middle value, or the mean of the two in the middle; 0 when there are none.
double Median(std::vector<double> values);

struct Interval {
  double low = 0, high = 0;
};
// A 95 % percentile-bootstrap interval of the median (Efron, "Bootstrap methods: another look at the jackknife", 1979):
// the 2.5 % and 97.5 % quantiles of the medians of 4,000 resamples. The same values give the same interval. With fewer
// than 3 values nothing can be said: none.
std::optional<Interval> BootstrapMedian(const std::vector<double>& values);

// Share of `sorted` values that are at most `limit`, counting `failures` as above it; 0 when there is neither.
double ShareWithin(const std::vector<float>& sorted, int64_t failures, double limit);

}  // namespace tandem::cli
