#pragma once
// For tests of this module: a version without an engine, and a client that does the work it waits for.
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <semaphore>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "serving/router.h"
#include "serving/serving.h"

namespace tandem::serving::testing {

// One input "x" FP32 [-1] and the output "out" = x + `added`. Thread-safe.
class FakeVersion : public LoadedVersion {
 public:
  FakeVersion(std::string model, int32_t version, float added = 0)
      : model_(std::move(model)), version_(version), added_(added) {}

  const std::string& model() const override { return model_; }
  int32_t version() const override { return version_; }
  const std::vector<TensorSignature>& inputs() const override { return inputs_; }
  const std::vector<TensorSignature>& outputs() const override { return outputs_; }
  const std::string& engine() const override { return engine_; }
  const spec::ModelConfig& config() const override { return config_; }
  void Submit(Request* request) const override {
    ++submitted_;
    request->status = Run(request->inputs, &request->outputs);
    request->compute_ns = 1;
    request->owner->Finished(request);
  }
  absl::Status RunInBackground(const std::vector<Request::Input>& inputs, std::vector<Tensor>* outputs) const override {
    if (hold_) held_.acquire();
    return Run(inputs, outputs);
  }
  void Record(bool, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) const override { ++recorded_; }
  Statistics ReadStatistics() const override { return {}; }
  HistogramSnapshot ReadLatency() const override { return {}; }
  LoadNow ReadLoad() const override { return {}; }

  // Set before it is shared.
  std::vector<TensorSignature> inputs_ = {{"x", DType::kFloat32, {-1}}};
  std::vector<TensorSignature> outputs_ = {{"out", DType::kFloat32, {-1}}};
  absl::Status fails_with_;
  bool hold_ = false;  // background runs wait for LetGo
  void LetGo(int runs) { held_.release(runs); }
  int submitted() const { return submitted_; }
  int recorded() const { return recorded_; }

 private:
  absl::Status Run(const std::vector<Request::Input>& inputs, std::vector<Tensor>* outputs) const {
    if (!fails_with_.ok()) return fails_with_;
    const engine::InputView& x = inputs[0].view;
    const auto* data = static_cast<const float*>(x.data);
    outputs->resize(1);
    Tensor& out = outputs->front();
    out = {"out", DType::kFloat32, x.shape, AlignedBuffer(x.byte_size)};
    for (size_t i = 0; i < x.byte_size / sizeof(float); ++i) out.As<float>()[i] = data[i] + added_;
    return absl::OkStatus();
  }

  const std::string model_, engine_ = "fake";
  const int32_t version_;
  const float added_;
  const spec::ModelConfig config_;
  mutable std::counting_semaphore<> held_{0};
  mutable std::atomic<int> submitted_{0}, recorded_{0};
};

// One request after the other, as a door's thread makes them: between the submission and the answer it runs whatever
// work there is, and sleeps when there is none. One thread's.
class Client : public Request::Owner, public WorkSource::Worker {
 public:
  explicit Client(Serving* serving) : serving_(serving) { serving_->work()->Join(this); }
  ~Client() override { serving_->work()->Leave(this); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  struct Answer {
    absl::Status status;
    int32_t version = 0;  // that answered
    std::vector<float> values;
    int64_t queue_ns = 0;
  };
  Answer Ask(std::string_view model, std::string_view version, std::vector<Request::Input> inputs,
             std::string_view key = "", int64_t deadline_nanos = 0) {
    absl::StatusOr<Target> target = serving_->Open(model, version);
    if (!target.ok()) return {target.status(), 0, {}};
    Request request;
    request.owner = this;
    request.inputs = std::move(inputs);
    request.route_key = key;
    request.deadline_nanos = deadline_nanos;
    request.sequence = sequence;
    finished_ = false;
    Router::Trip trip;
    if (target->router != nullptr) trip = target->router->Begin(request);
    const LoadedVersion* answering = trip.handle != nullptr ? trip.handle.get() : target->handle.get();
    const ModelHandle holder = target->HolderOf(request, *answering);
    if (holder != nullptr) answering = holder.get();
    answering->Submit(&request);
    while (!finished_) WorkOrSleep();
    if (target->router != nullptr) target->router->End(request, &trip);
    Answer answer{request.status, answering->version(), {}, request.queue_ns};
    if (request.status.ok() && !request.outputs.empty()) {
      const Tensor& out = request.outputs[0];
      answer.values.assign(out.As<float>(), out.As<float>() + out.buffer.size() / sizeof(float));
    }
    return answer;
  }

  Request::Sequence sequence;  // of the requests that follow

  void Finished(Request*) override {
    finished_ = true;
    Wake();
  }
  void Wake() override { woken_.release(); }

 private:
  void WorkOrSleep() {
    WorkSource* work = serving_->work();
    if (work->RunOne()) return;
    const int64_t until = work->BeginSleep(this);
    if (!finished_ && until != 0) {
      const int64_t nanos = until == WorkSource::kNever ? 3'600'000'000'000 : until - Clock::Real()->MonotonicNanos();
      (void)woken_.try_acquire_for(std::chrono::nanoseconds(nanos));
    }
    work->EndSleep(this);
  }

  Serving* const serving_;
  std::atomic<bool> finished_{false};
  std::counting_semaphore<> woken_{0};
};

}  // namespace tandem::serving::testing
