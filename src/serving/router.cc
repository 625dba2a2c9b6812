#include "serving/router.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"

namespace tandem::serving {
namespace {

constexpr uint64_t kFnvOffset = 0xcbf29ce484222325, kFnvPrime = 0x100000001b3;

uint64_t Fnv(uint64_t hash, std::string_view bytes) {
  for (unsigned char byte : bytes) hash = (hash ^ byte) * kFnvPrime;
  return hash;
}

uint64_t Mix(uint64_t h) {
  h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
  h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53;
  return h ^ h >> 33;
}

// Spreads evenly over any number of calls of one thread: multiples of the golden ratio (Weyl's sequence).
uint32_t NextBucket(uint64_t* state) {
  *state += 0x9e3779b97f4a7c15;
  return static_cast<uint32_t>((*state >> 32) * kBuckets >> 32);
}

uint32_t Share(double percent) {
  return static_cast<uint32_t>(std::llround(std::clamp(percent, 0.0, 100.0) * (kBuckets / 100)));
}

bool InSequence(const Request& request) { return request.sequence.id != 0 || !request.sequence.text_id.empty(); }

// Requests of one sequence stay together, whatever their key.
uint32_t CanaryBucket(const std::string& model, const Request& request) {
  thread_local uint64_t state = 0;
  if (request.sequence.id != 0) return BucketOf(model, std::to_string(request.sequence.id));
  if (!request.sequence.text_id.empty()) return BucketOf(model, request.sequence.text_id);
  return request.route_key.empty() ? NextBucket(&state) : BucketOf(model, request.route_key);
}

// The version's fault, and not that of a client who sent what no version takes, or left.
bool IsFailure(const Request& request) {
  if (request.status.ok() || absl::IsCancelled(request.status)) return false;
  return !absl::IsInvalidArgument(request.status) || request.compute_ns > 0;
}

std::string Described(const TensorSignature& tensor) {
  return StrCat("'", tensor.name, "' ", ProtocolName(tensor.dtype), " ", ToString(tensor.shape));
}

// "" when both are the same.
std::string Difference(std::string_view what, const std::vector<TensorSignature>& champion,
                       const std::vector<TensorSignature>& other) {
  if (champion.size() != other.size()) return StrCat("has ", other.size(), " ", what, "s instead of ", champion.size());
  for (size_t i = 0; i < champion.size(); ++i) {
    const TensorSignature &a = champion[i], &b = other[i];
    if (a.name != b.name || a.dtype != b.dtype || a.shape != b.shape) {
      return StrCat("has the ", what, " ", Described(b), " instead of ", Described(a));
    }
  }
  return "";
}

std::string ProblemOf(const RouterMaker::Side& champion, int32_t version, const RouterMaker::Side& side) {
  if (champion.handle == nullptr) return StrCat("the default version ", champion.why);
  if (side.handle == nullptr) return StrCat("version ", version, " ", side.why);
  if (side.handle == champion.handle) return StrCat("version ", version, " is the default version itself");
  std::string difference = Difference("input", champion.handle->inputs(), side.handle->inputs());
  if (difference.empty()) difference = Difference("output", champion.handle->outputs(), side.handle->outputs());
  if (difference.empty()) return "";
  return StrCat("version ", version, " ", difference, " as in version ", champion.handle->version());
}

CanarySide Read(int32_t version, const CanaryFigures::Side& side) {
  return {.version = version,
          .requests = side.requests.Value(),
          .failures = side.failures.Value(),
          .p99_us = side.duration_us.Read().Quantile(0.99)};
}

}  // namespace

uint32_t BucketOf(std::string_view model, std::string_view key) {
  const uint64_t hash = Fnv(Fnv(kFnvOffset, model) * kFnvPrime, key);
  return static_cast<uint32_t>(Mix(hash) % kBuckets);
}

Router::Router(Parts parts)
    : parts_(std::move(parts)),
      canary_share_(Share(parts_.split.canary_percent)),
      shadow_share_(Share(parts_.split.shadow_percent)) {}

Router::Trip Router::Begin(const Request& request) const {
  Trip trip;
  const bool to_canary = parts_.canary != nullptr && CanaryBucket(parts_.model, request) < canary_share_;
  trip.handle = to_canary ? parts_.canary : parts_.champion;
  trip.began_nanos = parts_.clock->MonotonicNanos();
  // What is compared with the champion's answer was answered by it; a sequence's answers depend on its earlier ones.
  if (parts_.shadow != nullptr && !to_canary && !InSequence(request)) {
    thread_local uint64_t state = 0;
    if (NextBucket(&state) < shadow_share_) {
      trip.copy = parts_.shadow_queue->Copy(request, parts_.shadow, parts_.shadow_figures);
    }
  }
  return trip;
}

void Router::End(const Request& request, Trip* trip) const {
  if (parts_.canary != nullptr) {
    CanaryFigures::Side& side =
        trip->handle == parts_.canary ? parts_.canary_figures->canary : parts_.canary_figures->champion;
    side.requests.Add(1);
    if (IsFailure(request)) side.failures.Add(1);
    if (request.status.ok()) side.duration_us.Observe((parts_.clock->MonotonicNanos() - trip->began_nanos) / 1000);
  }
  if (trip->copy == nullptr) return;
  if (request.status.ok()) {
    parts_.shadow_queue->Push(std::move(trip->copy), request);
  } else {
    trip->copy.reset();  // there is nothing to compare with
  }
}

absl::StatusOr<CanaryReport> Router::ReadCanary() const {
  if (parts_.canary_figures == nullptr) return NotFound("model '", parts_.model, "' has no canary");
  const CanaryFigures& figures = *parts_.canary_figures;
  return CanaryReport{.champion = Read(parts_.champion == nullptr ? 0 : parts_.champion->version(), figures.champion),
                      .canary = Read(parts_.split.canary, figures.canary),
                      .percent = parts_.split.canary_percent,
                      .seconds = static_cast<double>(parts_.clock->MonotonicNanos() - figures.began_nanos) / 1e9,
                      .problem = parts_.canary_problem};
}

absl::StatusOr<ShadowReport> Router::ReadShadow() const {
  if (parts_.shadow_figures == nullptr) return NotFound("model '", parts_.model, "' has no shadow");
  ShadowReport report;
  report.champion = parts_.champion == nullptr ? 0 : parts_.champion->version();
  report.shadow = parts_.split.shadow;
  report.percent = parts_.split.shadow_percent;
  report.seconds = static_cast<double>(parts_.clock->MonotonicNanos() - parts_.shadow_began_nanos) / 1e9;
  parts_.shadow_figures->Read(&report);
  report.problem = parts_.shadow_problem;
  return report;
}

std::shared_ptr<const Router> RouterMaker::Make(const std::string& model, const Split& split, const Side& champion,
                                                const Side& canary, const Side& shadow, SplitHistory* history) const {
  if (split.canary == 0 && split.shadow == 0) {
    *history = SplitHistory();
    return nullptr;
  }
  Router::Parts parts;
  parts.model = model;
  parts.split = split;
  parts.champion = champion.handle;
  parts.clock = clock_;
  parts.shadow_queue = queue_;
  const int32_t champion_version = champion.handle == nullptr ? 0 : champion.handle->version();
  if (split.canary != 0) {
    if (history->canary_figures == nullptr || history->canary_champion != champion_version ||
        history->canary != split.canary) {
      history->canary_champion = champion_version;
      history->canary = split.canary;
      history->canary_figures = std::make_shared<CanaryFigures>();
      history->canary_figures->began_nanos = clock_->MonotonicNanos();
    }
    parts.canary_figures = history->canary_figures;
    parts.canary_problem = ProblemOf(champion, split.canary, canary);
    if (parts.canary_problem.empty()) parts.canary = canary.handle;
  } else {
    history->canary_figures = nullptr;
  }
  if (split.shadow != 0) {
    if (history->shadow_figures == nullptr || history->shadow_champion != champion_version ||
        history->shadow != split.shadow) {
      history->shadow_champion = champion_version;
      history->shadow = split.shadow;
      history->shadow_figures = std::make_shared<ShadowFigures>(metrics_, model, split.shadow);
      history->shadow_began_nanos = clock_->MonotonicNanos();
    }
    parts.shadow_figures = history->shadow_figures;
    parts.shadow_began_nanos = history->shadow_began_nanos;
    parts.shadow_problem = ProblemOf(champion, split.shadow, shadow);
    if (parts.shadow_problem.empty()) parts.shadow = shadow.handle;
  } else {
    history->shadow_figures = nullptr;
  }
  return std::make_shared<const Router>(std::move(parts));
}

}  // namespace tandem::serving
