// Medians, ratios and goals of a co-location result.
#include <algorithm>

#include "absl/strings/str_format.h"
#include "tandem/bench_colocation_report.h"

namespace tandem::cli {
namespace {

using Windows = std::vector<const ColocationWindow*>;

Windows Select(const ColocationResult& result, std::string_view mode, double load) {
  Windows found;
  for (const ColocationWindow& window : result.windows) {
    if (window.mode == mode && window.load == load) found.push_back(&window);
  }
  return found;
}

// The median of a figure; windows without it (-1) are left out, and -1 is given where all are.
template <typename Figure>
double MedianOf(const Windows& windows, Figure figure) {
  std::vector<double> values;
  for (const ColocationWindow* window : windows) {
    if (figure(*window) >= 0) values.push_back(figure(*window));
  }
  return values.empty() ? -1 : Median(std::move(values));
}

// Round by round, so that what changes slowly on the machine cancels out.
template <typename Figure>
Ratio RatioOf(const Windows& windows, const Windows& base, Figure figure) {
  std::vector<double> ratios;
  for (const ColocationWindow* window : windows) {
    for (const ColocationWindow* other : base) {
      if (other->round != window->round || figure(*other) <= 0 || figure(*window) < 0) continue;
      ratios.push_back(figure(*window) / figure(*other));
    }
  }
  Ratio ratio{.rounds = static_cast<int>(ratios.size())};
  ratio.median = Median(ratios);
  ratio.interval = BootstrapMedian(ratios);
  return ratio;
}

constexpr auto kP50 = [](const ColocationWindow& w) { return w.p50_ms; };
constexpr auto kP99 = [](const ColocationWindow& w) { return w.p99_ms; };
constexpr auto kP999 = [](const ColocationWindow& w) { return w.p999_ms; };
constexpr auto kImages = [](const ColocationWindow& w) { return w.images_per_s; };

// Twice what the machine gives alone, unless a target was asked for.
double SloOf(const ColocationResult& result, double load) {
  if (result.options.slo_ms > 0) return result.options.slo_ms;
  for (std::string_view base : {"alone_warm", "alone"}) {
    Windows windows = Select(result, base, load);
    if (!windows.empty()) return 2 * MedianOf(windows, kP99);
  }
  return 0;
}

void AddSums(const Windows& windows, ColocationSummary* summary) {
  double attained = 0, waited = 0;
  for (const ColocationWindow* window : windows) {
    const auto sent = static_cast<double>(window->sent);
    summary->requests += window->sent;
    summary->failures += window->failures;
    summary->max_ms = std::max(summary->max_ms, window->max_ms);
    summary->most_steal = std::max(summary->most_steal, window->host.steal);
    attained += sent * ShareWithin(window->latencies_ms, window->failures, summary->slo_ms);
    waited += static_cast<double>(window->waited);
  }
  if (summary->requests == 0) return;
  summary->slo_attained = attained / static_cast<double>(summary->requests);
  summary->waited = waited / static_cast<double>(summary->requests);
}

ColocationSummary SummaryOf(const ColocationResult& result, std::string_view mode, double load) {
  Windows windows = Select(result, mode, load);
  Windows warm = Select(result, "alone_warm", load), alone = Select(result, "alone", load);
  ColocationSummary summary;
  summary.mode = mode;
  summary.load = load;
  summary.windows = static_cast<int>(windows.size());
  summary.slo_ms = SloOf(result, load);
  AddSums(windows, &summary);
  using W = ColocationWindow;
  summary.offered_per_s = MedianOf(windows, [](const W& w) { return w.offered_per_s; });
  summary.answered_per_s = MedianOf(windows, [](const W& w) { return w.answered_per_s; });
  summary.p50_ms = MedianOf(windows, kP50);
  summary.p99_ms = MedianOf(windows, kP99);
  summary.p999_ms = MedianOf(windows, kP999);
  summary.delay_p50_us = MedianOf(windows, [](const W& w) { return w.delay_p50_us; });
  summary.delay_p99_us = MedianOf(windows, [](const W& w) { return w.delay_p99_us; });
  summary.client = MedianOf(windows, [](const W& w) { return w.client; });
  summary.serving = MedianOf(windows, [](const W& w) { return w.host.serving; });
  summary.training = MedianOf(windows, [](const W& w) { return w.host.training; });
  summary.other = MedianOf(windows, [](const W& w) {
    return std::max(0.0, 1 - w.host.serving - w.host.training - w.host.idle - w.host.steal - w.client);
  });
  summary.idle = MedianOf(windows, [](const W& w) { return w.host.idle; });
  summary.conservation = MedianOf(windows, [](const W& w) { return w.host.conservation; });
  summary.run_delay_us = MedianOf(windows, [](const W& w) { return w.host.run_delay_us; });
  summary.images_per_s = MedianOf(windows, kImages);
  summary.p50_warm = RatioOf(windows, warm, kP50);
  summary.p99_warm = RatioOf(windows, warm, kP99);
  summary.p999_warm = RatioOf(windows, warm, kP999);
  summary.p50_alone = RatioOf(windows, alone, kP50);
  summary.p99_alone = RatioOf(windows, alone, kP99);
  summary.p999_alone = RatioOf(windows, alone, kP999);
  return summary;
}

void AddModeGoals(const ColocationResult& result, const ColocationSummary& summary,
                  std::vector<ColocationGoal>* goals) {
  const ColocationMode* mode = FindColocationMode(summary.mode);
  if (mode == nullptr || mode->jobs == 0 || !mode->isolated || summary.windows == 0) return;
  const std::string where = absl::StrFormat("%s at %g %%", summary.mode, summary.load * 100);
  const Ratio &p99 = summary.p99_warm, &p999 = summary.p999_warm;
  if (p99.rounds > 0) {
    goals->push_back({where + ": p99 / alone warm", p99.median, 1.05, false, p99.interval});
    goals->push_back({where + ": p99.9 / alone warm", p999.median, 1.10, false, p999.interval});
  }
  goals->push_back({where + ": conservation", summary.conservation, mode->jobs > 1 ? 0.99 : 0.95, true, std::nullopt});
  goals->push_back({where + ": failed requests", static_cast<double>(summary.failures), 0, false, std::nullopt});
  Ratio images =
      RatioOf(Select(result, summary.mode, summary.load), Select(result, "unmanaged", summary.load), kImages);
  if (images.rounds > 0) {
    goals->push_back({where + ": images/s / unmanaged", images.median, 1, true, images.interval});
  }
}

}  // namespace

std::vector<ColocationSummary> Summarise(const ColocationResult& result) {
  std::vector<ColocationSummary> summaries;
  for (double load : result.options.loads) {
    for (const ColocationMode* mode : result.options.modes) summaries.push_back(SummaryOf(result, mode->name, load));
  }
  return summaries;
}

std::vector<ColocationGoal> Goals(const ColocationResult& result, const std::vector<ColocationSummary>& summaries) {
  std::vector<ColocationGoal> goals;
  for (const ColocationSummary& summary : summaries) AddModeGoals(result, summary, &goals);
  if (result.bytes.done) {
    goals.push_back({"every byte of the trained model equal", result.bytes.same() ? 1.0 : 0.0, 1, true, std::nullopt});
  }
  return goals;
}

}  // namespace tandem::cli
