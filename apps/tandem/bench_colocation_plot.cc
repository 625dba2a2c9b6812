// p50, p99 and p99.9 by mode and load as SVG: one panel a load, one group of bars a mode, a logarithmic axis.
#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/strings.h"
#include "tandem/bench_colocation_report.h"

namespace tandem::cli {
namespace {

constexpr double kTop = 84, kBottom = 380, kHeight = 470;  // of the axis; of the picture
constexpr double kLeft = 60, kGroup = 96, kBar = 24, kGap = 34;

struct Quantity {
  std::string_view name, colour;
  double ColocationSummary::*value;
};
constexpr std::array<Quantity, 3> kQuantities = {{{"p50", "#9ecae1", &ColocationSummary::p50_ms},
                                                  {"p99", "#4292c6", &ColocationSummary::p99_ms},
                                                  {"p99.9", "#08306b", &ColocationSummary::p999_ms}}};

std::string Escaped(std::string_view text) {
  return absl::StrReplaceAll(AbslView(text), {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

std::string Text(double x, double y, std::string_view text, std::string_view more = "") {
  return absl::StrFormat("<text x='%.1f' y='%.1f' %s>%s</text>\n", x, y, more, Escaped(text));
}

// Milliseconds to height on the picture, from a whole power of ten to another (or to 2 or 5 times one).
class Axis {
 public:
  explicit Axis(const std::vector<ColocationSummary>& summaries) {
    double low = 1e9, high = 0;
    for (const ColocationSummary& one : summaries) {
      for (const Quantity& quantity : kQuantities) {
        double value = one.*quantity.value;
        if (value <= 0) continue;
        low = std::min(low, value);
        high = std::max(high, value);
      }
    }
    if (high == 0) low = high = 1;
    low_ = std::pow(10, std::floor(std::log10(low / 1.5)));
    high_ = low_;
    for (int i = 0; high_ < high * 1.1; ++i) high_ *= i % 3 == 1 ? 2.5 : 2;
  }

  double Y(double ms) const {
    return kBottom - (kBottom - kTop) * std::log(std::max(ms, low_) / low_) / std::log(high_ / low_);
  }
  std::vector<double> Ticks() const {
    std::vector<double> ticks;
    double tick = low_;
    for (int i = 0; tick <= high_ * 1.001; ++i) {
      ticks.push_back(tick);
      tick *= i % 3 == 1 ? 2.5 : 2;
    }
    return ticks;
  }

 private:
  double low_ = 0, high_ = 0;
};

std::string Grid(const Axis& axis, double right) {
  std::string out;
  for (double tick : axis.Ticks()) {
    absl::StrAppendFormat(&out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='#ddd'/>\n", kLeft, axis.Y(tick),
                          right, axis.Y(tick));
    out += Text(kLeft - 6, axis.Y(tick) + 4, absl::StrFormat("%g", tick), "text-anchor='end'");
  }
  return out + Text(kLeft - 6, kTop - 12, "ms", "text-anchor='end'");
}

std::string Bars(const ColocationSummary& one, const Axis& axis, double x) {
  std::string out;
  for (size_t i = 0; i < kQuantities.size(); ++i) {
    const double value = one.*kQuantities[i].value;
    if (value <= 0) continue;
    const double left = x + static_cast<double>(i) * (kBar + 3), top = axis.Y(value);
    absl::StrAppendFormat(&out, "<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s'/>\n", left, top, kBar,
                          kBottom - top, kQuantities[i].colour);
    out += Text(left + kBar / 2, top - 4, absl::StrFormat("%.*f", value < 10 ? 2 : 0, value),
                "text-anchor='middle' font-size='9'");
  }
  const double middle = x + 1.5 * kBar + 3;
  out += Text(middle, kBottom + 16, one.mode, "text-anchor='middle'");
  if (one.p99_warm.rounds > 0 && one.mode != "alone_warm") {
    out += Text(middle, kBottom + 31, absl::StrFormat("p99 x%.2f", one.p99_warm.median),
                "text-anchor='middle' font-size='10' fill='#555'");
  }
  if (one.conservation >= 0) {
    out += Text(middle, kBottom + 45, absl::StrFormat("cons. %.3f", one.conservation),
                "text-anchor='middle' font-size='10' fill='#555'");
    out += Text(middle, kBottom + 59, absl::StrFormat("%.0f images/s", one.images_per_s),
                "text-anchor='middle' font-size='10' fill='#555'");
  }
  return out;
}

std::string Legend() {
  std::string out;
  double x = kLeft;
  for (const Quantity& quantity : kQuantities) {
    absl::StrAppendFormat(&out, "<rect x='%.1f' y='34' width='12' height='12' fill='%s'/>\n", x, quantity.colour);
    out += Text(x + 17, 44, quantity.name);
    x += 70;
  }
  return out + Text(x, 44, "medians over rounds; x = median ratio to alone_warm; cons. = training / (training + idle)",
                    "fill='#555'");
}

}  // namespace

std::string ColocationSvg(const ColocationResult& result) {
  std::vector<ColocationSummary> summaries = Summarise(result);
  Axis axis(summaries);
  std::string panels;
  double x = kLeft + 8;
  for (double load : result.options.loads) {
    const double left = x;
    double rate = 0;
    for (const ColocationSummary& one : summaries) {
      if (one.load != load) continue;
      panels += Bars(one, axis, x);
      rate = std::max(rate, one.offered_per_s);
      x += kGroup;
    }
    panels +=
        Text((left + x) / 2 - 8, kTop - 16, absl::StrFormat("load %g %% (%s requests/s)", load * 100, Thousands(rate)),
             "text-anchor='middle' font-weight='bold'");
    x += kGap;
  }
  const double width = std::max(x, 640.0);
  std::string title = StrCat("Request latency beside training: ", result.model, ", ", result.host.cpu_model, ", ",
                             result.host.cpus, " CPUs", result.options.amount.quick ? " (quick)" : "");
  return absl::StrFormat(
             "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %.0f %.0f' width='%.0f' height='%.0f' "
             "font-family='sans-serif' font-size='12'>\n<rect width='100%%' height='100%%' fill='white'/>\n",
             width, kHeight, width, kHeight) +
         Text(kLeft, 22, title, "font-size='15' font-weight='bold'") + Legend() + Grid(axis, width - 12) + panels +
         "</svg>\n";
}

}  // namespace tandem::cli
