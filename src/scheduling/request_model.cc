#include "scheduling/request_model.h"

#include <functional>
#include <limits>

namespace tandem::scheduling {
namespace {

constexpr double kMostArrivalsPerMs = 50;  // above, requests come in groups
constexpr double kLongestWaitMs = 1000;    // a request that would wait longer is refused
constexpr double kAdmissionBurstMs = 100;  // of real time that admission may run ahead of its cap

}  // namespace

void RequestTally::AddScaled(const RequestTally& sample, double factor) {
  requests += sample.requests * factor;
  refused += sample.refused * factor;
  attained += sample.attained * factor;
  for (int i = 0; i < kLatencyBuckets; ++i) latencies.counts[i] += sample.latencies.counts[i] * factor;
  latencies.total += sample.latencies.total * factor;
}

// docs/isolation.md, requests of about 1 ms beside two training threads on two CPUs. Real time: run delay up to 50 us.
// Weight: under 1 % of requests lose up to a tick of 4 ms. Weak: the p99 of the run delay is 3.3-4 ms.
Interference MeasuredInterference(Strength strength) {
  switch (strength) {
    case Strength::kRealtime:
      return {.slow_down = 0.05, .delayed_part = 1, .longest_delay_ms = 0.05};
    case Strength::kWeight:
      return {.slow_down = 0.05, .delayed_part = 0.01, .longest_delay_ms = 4};
    case Strength::kWeak:
      break;
  }
  return {.slow_down = 0.05, .delayed_part = 0.1, .longest_delay_ms = 4};
}

RequestModel::RequestModel(int cpus, Strength strength, uint64_t seed, const std::vector<Model>& models)
    : cpus_(cpus), interference_(MeasuredInterference(strength)), random_(seed), free_at_ms_(cpus, 0) {
  for (const Model& model : models) {
    models_.push_back({.model = model,
                       .scale = LatencyScale(model.target_ms),
                       .next_arrival_ms = std::numeric_limits<double>::infinity()});
  }
}

void RequestModel::SetLoad(size_t model, double requests_per_s, double service_ms) {
  State& state = models_[model];
  if (service_ms > 0) state.model.service_ms = service_ms;  // 0: nobody asked, but some may still wait
  if (state.model.requests_per_s == requests_per_s) return;
  state.model.requests_per_s = requests_per_s;
  state.weight = static_cast<int64_t>(std::ceil(std::max(1.0, requests_per_s / 1000 / kMostArrivalsPerMs)));
  // A Poisson process has no memory: the time to the next arrival may be drawn anew.
  DrawNextArrival(&state, static_cast<double>(slot_ * kSlotMs));
}

void RequestModel::DrawNextArrival(State* state, double after_ms) {
  const double per_ms = state->model.requests_per_s / 1000 / static_cast<double>(state->weight);
  state->next_arrival_ms =
      per_ms > 0 ? after_ms - std::log(1 - Uniform()) / per_ms : std::numeric_limits<double>::infinity();
}

void RequestModel::Arrive(State* state, double at_ms, int training_threads) {
  const double weight = static_cast<double>(state->weight);
  const double beside = std::min(1.0, static_cast<double>(training_threads) / cpus_);
  state->all.requests += weight;
  state->sample.requests += weight;
  double start_ms = std::max(at_ms, free_at_ms_.front());
  if (admission_cpus_ > 0) start_ms = std::max(start_ms, admission_ms_ - kAdmissionBurstMs);
  if (start_ms - at_ms > kLongestWaitMs) {
    state->all.refused += weight;
    state->sample.refused += weight;
    return;
  }
  const double service_ms = state->model.service_ms * (1 + interference_.slow_down * beside);
  double delay_ms = 0;
  if (beside > 0 && Uniform() < interference_.delayed_part * beside) {
    delay_ms = Uniform() * interference_.longest_delay_ms;
  }
  if (admission_cpus_ > 0) admission_ms_ = std::max(admission_ms_, start_ms) + service_ms * weight / admission_cpus_;
  const double end_ms = start_ms + delay_ms + service_ms * weight;
  std::pop_heap(free_at_ms_.begin(), free_at_ms_.end(), std::greater<>());
  free_at_ms_.back() = end_ms;
  std::push_heap(free_at_ms_.begin(), free_at_ms_.end(), std::greater<>());
  AddBusy(start_ms + delay_ms, service_ms * weight);

  const double latency_ms = start_ms - at_ms + delay_ms + service_ms;
  const int bucket = state->scale.BucketOf(latency_ms);
  auto slot_of = [&](double ms) {
    return std::clamp(static_cast<int64_t>(ms) / kSlotMs, slot_, slot_ + kRing - kSecond - 1);
  };
  state->starts[RingIndex(slot_of(start_ms))] += state->weight;
  state->waiting += state->weight;
  state->ends[RingIndex(slot_of(end_ms))].push_back({bucket, state->weight});
  for (RequestTally* tally : {&state->all, &state->sample}) {
    tally->latencies.Add(bucket, weight);
    if (bucket <= kTargetBucket) tally->attained += weight;
  }
}

void RequestModel::AddBusy(double start_ms, double ms) {
  int64_t slot = static_cast<int64_t>(start_ms) / kSlotMs;
  const int64_t last = slot_ + kRing - kSecond - 1;
  for (double left = ms; left > 0; ++slot) {
    const double in_slot = slot >= last ? left : std::min(left, static_cast<double>((slot + 1) * kSlotMs) - start_ms);
    busy_ms_[RingIndex(std::min(slot, last))] += in_slot;
    left -= in_slot;
    start_ms = static_cast<double>((slot + 1) * kSlotMs);
  }
}

// The slot's starts leave the queue, its ends enter the windows that policy and gate look through, and old ones leave.
void RequestModel::Settle(State* state) {
  int64_t& started = state->starts[RingIndex(slot_)];
  state->waiting -= started;
  started = 0;
  auto move = [&](int64_t slot, LatencyCounts<int64_t>* window, int64_t sign) {
    if (slot < 0) return;
    for (const Ended& ended : state->ends[RingIndex(slot)]) window->Add(ended.bucket, sign * ended.weight);
  };
  move(slot_, &state->second, 1);
  move(slot_, &state->gate, 1);
  move(slot_ - kGateWindow, &state->gate, -1);
  move(slot_ - kSecond, &state->second, -1);
  if (slot_ >= kSecond) state->ends[RingIndex(slot_ - kSecond)].clear();
}

double RequestModel::RunSlot(int training_threads) {
  const double end_ms = static_cast<double>((slot_ + 1) * kSlotMs);
  while (true) {
    State* next = nullptr;
    for (State& state : models_) {
      if (state.next_arrival_ms < end_ms && (next == nullptr || state.next_arrival_ms < next->next_arrival_ms)) {
        next = &state;
      }
    }
    if (next == nullptr) break;
    const double at_ms = next->next_arrival_ms;
    Arrive(next, at_ms, training_threads);
    DrawNextArrival(next, at_ms);
  }
  for (State& state : models_) Settle(&state);
  const double busy = busy_ms_[RingIndex(slot_)];
  busy_second_ms_ += busy;
  if (slot_ >= kSecond) {
    double& old = busy_ms_[RingIndex(slot_ - kSecond)];
    busy_second_ms_ -= old;
    old = 0;
  }
  serving_ms_all_ += busy;
  serving_ms_sample_ += busy;
  ++slot_;
  return busy;
}

void RequestModel::FillLoads(std::vector<ModelLoad>* loads) const {
  loads->resize(models_.size());
  for (size_t i = 0; i < models_.size(); ++i) {
    const State& state = models_[i];
    ModelLoad& load = (*loads)[i];
    if (load.name.empty()) load.name = state.model.name;
    load.slo_ms = state.model.target_ms;
    load.requests = state.second.total;
    load.requests_per_s = static_cast<double>(load.requests);
    load.p99_ms = load.requests == 0 ? 0 : state.scale.UpperEdgeMs(state.second.QuantileBucket(0.99));
    load.waiting = static_cast<int>(state.waiting);
  }
}

void RequestModel::FillGate(GateSnapshot* gate) const {
  const double now_ms = static_cast<double>(slot_ * kSlotMs);
  gate->busy_instances = static_cast<int>(
      std::count_if(free_at_ms_.begin(), free_at_ms_.end(), [&](double free_at) { return free_at > now_ms; }));
  gate->waiting = 0;
  gate->worst_ratio = 0;
  gate->worst_requests = 0;
  for (const State& state : models_) {
    gate->waiting += static_cast<int>(state.waiting);
    if (state.gate.total == 0) continue;
    const double ratio = state.scale.UpperEdgeMs(state.gate.QuantileBucket(0.99)) / state.model.target_ms;
    if (ratio <= gate->worst_ratio) continue;
    gate->worst_ratio = ratio;
    gate->worst_requests = state.gate.total;
  }
}

double RequestModel::BacklogMs() const {
  const double now_ms = static_cast<double>(slot_ * kSlotMs);
  const double admitted = admission_cpus_ > 0 ? admission_ms_ - kAdmissionBurstMs : 0;
  return std::max({0.0, free_at_ms_.front() - now_ms, admitted - now_ms});
}

double RequestModel::P99Ms(size_t i) const {
  const LatencyCounts<double>& latencies = models_[i].all.latencies;
  return latencies.total > 0 ? models_[i].scale.UpperEdgeMs(latencies.QuantileBucket(0.99)) : 0;
}

void RequestModel::BeginSample() {
  for (State& state : models_) state.sample = {};
  serving_ms_sample_ = 0;
}

void RequestModel::Extrapolate(double sample_ms, double ms) {
  for (State& state : models_) {
    const double expected = state.model.requests_per_s * ms / 1000;
    if (state.sample.requests == 0) {  // too rare for the sample: each finds the machine idle
      const int bucket = state.scale.BucketOf(state.model.service_ms);
      state.sample.requests = 1;
      state.sample.attained = bucket <= kTargetBucket ? 1 : 0;
      state.sample.latencies.Add(bucket, 1);
    }
    // To the count that the rate says, not to the sample's, which is off by chance.
    state.all.AddScaled(state.sample, expected / state.sample.requests);
  }
  serving_ms_all_ += serving_ms_sample_ * ms / sample_ms;
}

}  // namespace tandem::scheduling
