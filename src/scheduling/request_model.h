#pragma once
// The simulator's serving side: Poisson arrivals, CPUs, one queue. Internal to the simulator.
#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "scheduling/latencies.h"
#include "scheduling/policy.h"

namespace tandem::scheduling {

constexpr int64_t kSlotMs = 20;

// What happened to requests, and what it cost; part of it scaled up from a sample.
struct RequestTally {
  double requests = 0, refused = 0, attained = 0;
  LatencyCounts<double> latencies;

  void AddScaled(const RequestTally& sample, double factor);
};

// What training's presence costs a request.
struct Interference {
  double slow_down = 0;         // of a request's CPU time, when every CPU trains
  double delayed_part = 0;      // of requests that wait for a training thread, when every CPU trains
  double longest_delay_ms = 0;  // such a wait is uniform up to this
};
Interference MeasuredInterference(Strength strength);

// Time goes on in slots of 20 ms. Thread-compatible; deterministic for a seed.
class RequestModel {
 public:
  struct Model {
    std::string name;
    double target_ms;
    double requests_per_s = 0, service_ms = 1;
  };

  RequestModel(int cpus, Strength strength, uint64_t seed, const std::vector<Model>& models);

  // From the next slot on.
  void SetLoad(size_t model, double requests_per_s, double service_ms);
  void SetAdmissionCap(double cpus) { admission_cpus_ = cpus; }

  // One slot beside `training_threads` running threads; gives the CPU time that serving used, in ms.
  double RunSlot(int training_threads);

  // At the end of the last slot.
  void FillLoads(std::vector<ModelLoad>* loads) const;  // over the last second
  void FillGate(GateSnapshot* gate) const;              // requests, and p99 over the last 100 ms
  double ServingCpus() const { return busy_second_ms_ / 1000; }
  // How long a request that came now would wait.
  double BacklogMs() const;

  size_t size() const { return models_.size(); }
  const Model& model(size_t i) const { return models_[i].model; }
  const RequestTally& all(size_t i) const { return models_[i].all; }
  double serving_ms() const { return serving_ms_all_; }
  double P99Ms(size_t i) const;

  void BeginSample();
  // The time that follows is taken to be like the sample, which lasted sample_ms: `ms` more of it.
  void Extrapolate(double sample_ms, double ms);

 private:
  static constexpr int kRing = 1024;     // slots ahead: 20 s
  static constexpr int kSecond = 50;     // slots
  static constexpr int kGateWindow = 5;  // slots
  struct Ended {
    int bucket;
    int64_t weight;
  };
  struct State {
    Model model;
    LatencyScale scale;
    int64_t weight = 1;  // requests that arrive, and are counted, as one
    double next_arrival_ms;
    int64_t waiting = 0;
    std::array<int64_t, kRing> starts{};         // by slot
    std::array<std::vector<Ended>, kRing> ends;  // by slot; the last second's are kept
    LatencyCounts<int64_t> second, gate;         // over the last 1 s and 100 ms
    RequestTally all, sample;
  };

  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  void DrawNextArrival(State* state, double after_ms);
  void Arrive(State* state, double at_ms, int training_threads);
  void AddBusy(double start_ms, double ms);
  void Settle(State* state);
  static int RingIndex(int64_t slot) { return static_cast<int>(slot & (kRing - 1)); }

  const int cpus_;
  const Interference interference_;
  std::mt19937_64 random_;
  std::vector<State> models_;
  std::vector<double> free_at_ms_;  // of each CPU: a heap, the earliest first
  std::array<double, kRing> busy_ms_{};
  double admission_cpus_ = 0;  // 0 = no cap
  double admission_ms_ = 0;    // when the CPU time admitted so far is paid off at the cap's rate
  int64_t slot_ = 0;           // that runs next
  double busy_second_ms_ = 0, serving_ms_all_ = 0, serving_ms_sample_ = 0;
};

}  // namespace tandem::scheduling
