#pragma once
// For tests of this module: models that are functions, and requests that remember their answers.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "serving/data_plane.h"
#include "serving/version.h"

namespace tandem::serving::testing {

using RunFunction = std::function<absl::Status(const std::vector<engine::InputView>&, std::vector<Tensor>*)>;

class FunctionInstance : public engine::Instance {
 public:
  explicit FunctionInstance(RunFunction run) : run_(std::move(run)) {}
  absl::Status Run(const std::vector<engine::InputView>& inputs, std::vector<Tensor>* outputs) override {
    return run_(inputs, outputs);
  }

 private:
  RunFunction run_;
};

class FunctionModel : public engine::LoadedModel {
 public:
  FunctionModel(std::vector<TensorSignature> inputs, std::vector<TensorSignature> outputs, RunFunction run)
      : inputs_(std::move(inputs)), outputs_(std::move(outputs)), run_(std::move(run)) {}
  const std::vector<TensorSignature>& inputs() const override { return inputs_; }
  const std::vector<TensorSignature>& outputs() const override { return outputs_; }
  absl::StatusOr<std::unique_ptr<engine::Instance>> MakeInstance() override {
    return std::make_unique<FunctionInstance>(run_);
  }

 private:
  std::vector<TensorSignature> inputs_, outputs_;
  RunFunction run_;
};

// Output i is a copy of input i, by the name given.
inline void Copy(const engine::InputView& input, std::string name, Tensor* output) {
  output->name = std::move(name);
  output->dtype = input.dtype;
  output->shape = input.shape;
  output->buffer.Resize(input.byte_size);
  if (input.byte_size > 0) std::memcpy(output->buffer.data(), input.data, input.byte_size);
}

// A request with one FP32 input "x" (or what a test makes of it), and what became of it.
class Call : public Request::Owner {
 public:
  explicit Call(std::vector<float> values, Shape shape = {}) : values(std::move(values)) {
    if (shape.empty()) shape = {static_cast<int64_t>(this->values.size()), 1};
    request.owner = this;
    request.inputs = {{"x", {DType::kFloat32, std::move(shape), this->values.data(), 4 * this->values.size()}}};
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  void Finished(Request*) override {
    static std::atomic<int> count{0};
    order = ++count;
    ++finished;
    ++any_finished;  // not the call's own: a waiter may destroy it by now
    any_finished.notify_all();
  }
  bool done() const { return finished == 1; }
  void Wait() const {
    while (true) {
      const int seen = any_finished;
      if (finished > 0) return;
      any_finished.wait(seen);
    }
  }
  std::vector<float> Answer(size_t output = 0) const {
    const Tensor& tensor = request.outputs.at(output);
    const float* first = tensor.As<float>();
    return {first, first + tensor.buffer.size() / sizeof(float)};
  }

  std::vector<float> values;
  Request request;
  std::atomic<int> finished{0};
  std::atomic<int> order{0};  // among all calls
  static inline std::atomic<int> any_finished{0};
};

// A version of a function, on a data plane of its own unless one is given.
struct Served {
  explicit Served(spec::ModelConfig config, RunFunction run = nullptr, Clock* clock = Clock::Real(),
                  DataPlane* shared = nullptr, std::vector<TensorSignature> inputs = {{"x", DType::kFloat32, {-1, -1}}},
                  std::vector<TensorSignature> outputs = {{"out", DType::kFloat32, {-1, -1}}},
                  const ServingSettings& settings = {})
      : own_plane(1 << 20, clock), plane(shared == nullptr ? &own_plane : shared) {
    if (run == nullptr) {
      run = [](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
        out->resize(1);
        Copy(in[0], "out", &(*out)[0]);
        return absl::OkStatus();
      };
    }
    DesiredVersion spec;
    spec.version = 1;
    spec.config = std::move(config);
    metrics = std::make_shared<VersionMetrics>();
    made = Version::Create("m", spec, std::make_unique<FunctionModel>(std::move(inputs), std::move(outputs), run),
                           settings, plane, clock, metrics);
  }
  Version* operator->() { return made->get(); }
  uint64_t Count(Decision decision) const { return metrics->decisions[static_cast<int>(decision)].Value(); }
  // Runs what is due; how many batches that were.
  int RunAll() {
    int runs = 0;
    while (plane->executor.RunOne()) ++runs;
    return runs;
  }

  DataPlane own_plane;
  DataPlane* plane;
  std::shared_ptr<VersionMetrics> metrics;
  absl::StatusOr<std::unique_ptr<Version>> made;
};

inline constexpr int64_t kMs = 1'000'000;

inline spec::ModelConfig Merging(int most, double delay_ms = 0) {
  spec::ModelConfig config;
  config.max_batch_size = most;
  config.max_queue_delay_ms = delay_ms;
  return config;
}

inline std::string Message(const Call& call) { return std::string(call.request.status.message()); }

// Models whose runs are noted and take as long as the test says, by a clock that the test moves.
class FunctionTest : public ::testing::Test {
 protected:
  // A function that notes the rows of each run and fails when a value is -1.
  RunFunction Noting() {
    return [this](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) -> absl::Status {
      runs_.push_back(in[0].shape[0]);
      clock_.AdvanceMillis(cost_ms_);
      const auto* values = static_cast<const float*>(in[0].data);
      for (size_t i = 0; i < in[0].byte_size / 4; ++i) {
        if (values[i] == -1) return InvalidArgument("-1 is no value");
      }
      out->resize(1);
      Copy(in[0], "out", &(*out)[0]);
      return absl::OkStatus();
    };
  }
  Served Serve(spec::ModelConfig config, const ServingSettings& settings = {}) {
    return Served(std::move(config), Noting(), &clock_, nullptr, {{"x", DType::kFloat32, {-1, -1}}},
                  {{"out", DType::kFloat32, {-1, -1}}}, settings);
  }

  FakeClock clock_;
  int64_t cost_ms_ = 0;
  std::vector<int64_t> runs_;  // of the warm-up too
};

}  // namespace tandem::serving::testing
