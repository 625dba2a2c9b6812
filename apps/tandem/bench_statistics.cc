#include "tandem/bench_statistics.h"

#include "data/dataset.h"

namespace tandem::cli {
namespace {

constexpr int kResamples = 4000;
constexpr uint64_t kSeed = 20261;

}  // namespace

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::optional<Interval> BootstrapMedian(const std::vector<double>& values) {
  if (values.size() < 3) return std::nullopt;
  data::RandomStream random(kSeed, data::Purpose::kShuffle, 0);
  std::vector<double> medians, resample(values.size());
  medians.reserve(kResamples);
  for (int i = 0; i < kResamples; ++i) {
    for (double& value : resample) value = values[random.Below(static_cast<uint32_t>(values.size()))];
    medians.push_back(Median(resample));
  }
  std::sort(medians.begin(), medians.end());
  return Interval{Quantile(medians, 0.025), Quantile(medians, 0.975)};
}

double ShareWithin(const std::vector<float>& sorted, int64_t failures, double limit) {
  double all = static_cast<double>(sorted.size()) + static_cast<double>(failures);
  if (all == 0) return 0;
  auto end = std::upper_bound(sorted.begin(), sorted.end(), static_cast<float>(limit));
  return static_cast<double>(end - sorted.begin()) / all;
}

}  // namespace tandem::cli
