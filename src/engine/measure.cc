#include "engine/measure.h"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <memory>

#include "base/status.h"
#include "engine/difference.h"

namespace tandem::engine {
namespace {

constexpr int kLeastRuns = 5;

// Time that this thread has used (a run of one thread is wholly on its caller), or that has passed.
//
// The child has the lowest class: requests and jobs interrupt it for as long as they like, and the wall clock would
// measure them. Where an engine has threads of its own, or another device computes, only the wall clock knows.
class Stopwatch {
 public:
  explicit Stopwatch(const Options& options)
      : clock_(options.threads == 1 && options.device == "CPU" ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC) {}
  int64_t Nanos() const {
    timespec now{};
    clock_gettime(clock_, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }

 private:
  const clockid_t clock_;
};

template <typename Dims>
bool Fits(const Dims& shape, const Shape& signature) {
  return std::ranges::equal(shape, signature,
                            [](int64_t dim, int64_t wanted) { return wanted == -1 || dim == wanted; });
}

// A sample as an engine takes it.
class Run {
 public:
  static absl::StatusOr<Run> Create(const wire::Sample& sample, const std::vector<TensorSignature>& inputs) {
    Run run;
    for (const TensorSignature& input : inputs) {
      auto found = std::ranges::find_if(sample.tensors(),
                                        [&](const wire::SampleTensor& tensor) { return tensor.name() == input.name; });
      if (found == sample.tensors().end()) return InvalidArgument("the samples have no input '", input.name, "'");
      if (found->dtype() != static_cast<int32_t>(input.dtype)) {
        return InvalidArgument("input '", input.name, "' is ", ProtocolName(input.dtype), " here, and ",
                               ProtocolName(static_cast<DType>(found->dtype())), " in the samples");
      }
      if (!Fits(found->shape(), input.shape)) {
        return InvalidArgument("input '", input.name, "' is ", ToString(input.shape), " here, and ",
                               ToString(Shape(found->shape().begin(), found->shape().end())), " in the samples");
      }
      AlignedBuffer& buffer = run.buffers_.emplace_back(found->data().size());
      if (buffer.size() > 0) std::memcpy(buffer.data(), found->data().data(), buffer.size());
      run.views_.push_back(
          {input.dtype, Shape(found->shape().begin(), found->shape().end()), buffer.data(), buffer.size()});
    }
    return run;
  }

  absl::Status On(Instance* instance, std::vector<Tensor>* outputs) const { return instance->Run(views_, outputs); }

 private:
  std::vector<AlignedBuffer> buffers_;
  std::vector<InputView> views_;
};

wire::Sample ToSample(int rows, const std::vector<Tensor>& outputs) {
  wire::Sample sample;
  sample.set_rows(rows);
  for (const Tensor& output : outputs) AddTensor({output.name, output.dtype, output.shape}, output.bytes(), &sample);
  return sample;
}

int64_t BytesOf(const std::vector<Tensor>& tensors) {
  int64_t bytes = 0;
  for (const Tensor& tensor : tensors) bytes += static_cast<int64_t>(tensor.buffer.size());
  return bytes;
}

// The mean over the runs of the least time that each took, in milliseconds: what interrupts a run only ever adds.
absl::StatusOr<double> Latency(const std::vector<const Run*>& runs, const Options& options, const MeasureLimits& limits,
                               Instance* instance, std::vector<Tensor>* outputs) {
  const Stopwatch watch(options);
  const Clock* clock = Clock::Real();
  const int64_t begin = clock->MonotonicNanos();
  std::vector<int64_t> least(runs.size(), std::numeric_limits<int64_t>::max());
  for (int round = 0; round < limits.most_runs; ++round) {
    for (size_t i = 0; i < runs.size(); ++i) {
      const int64_t before = watch.Nanos();
      TANDEM_RETURN_IF_ERROR(runs[i]->On(instance, outputs));
      least[i] = std::min(least[i], watch.Nanos() - before);
    }
    const double passed = static_cast<double>(clock->MonotonicNanos() - begin) / 1e9;
    if (passed > limits.seconds && (round + 1 >= kLeastRuns || passed > 10 * limits.seconds)) break;
  }
  double sum = 0;
  for (int64_t nanos : least) sum += static_cast<double>(nanos) / 1e6;
  return sum / static_cast<double>(runs.size());
}

}  // namespace

absl::StatusOr<wire::Measurement> Measure(LoadedModel& model, const Options& options, const wire::Samples& samples,
                                          const wire::Samples* reference, wire::Samples* outputs,
                                          const MeasureLimits& limits) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Instance> instance, model.MakeInstance());
  wire::Measurement found;
  std::vector<std::unique_ptr<Run>> runs;
  std::map<int, std::vector<const Run*>> by_rows;
  std::vector<Tensor> answer;
  int64_t kept_bytes = 0;
  for (int i = 0; i < samples.samples_size(); ++i) {
    const wire::Sample& sample = samples.samples(i);
    TANDEM_ASSIGN_OR_RETURN(Run run, Run::Create(sample, model.inputs()));
    runs.push_back(std::make_unique<Run>(std::move(run)));
    by_rows[sample.rows()].push_back(runs.back().get());
    TANDEM_RETURN_IF_ERROR(runs.back()->On(instance.get(), &answer));
    kept_bytes += BytesOf(answer);
    const bool kept = kept_bytes <= kMaxSampleBytes;
    if (kept && outputs != nullptr) *outputs->add_samples() = ToSample(sample.rows(), answer);
    if (kept && reference != nullptr && i < reference->samples_size()) {
      AddDifference(reference->samples(i), ToSample(sample.rows(), answer), &found);
    }
  }
  for (const auto& [rows, of_rows] : by_rows) {
    TANDEM_ASSIGN_OR_RETURN(double latency, Latency(of_rows, options, limits, instance.get(), &answer));
    (*found.mutable_latency_ms())[rows] = latency;
  }
  return found;
}

absl::Status TrySamples(LoadedModel& model, const wire::Samples& samples) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Instance> instance, model.MakeInstance());
  std::vector<Tensor> answer;
  for (const wire::Sample& sample : samples.samples()) {
    TANDEM_ASSIGN_OR_RETURN(Run run, Run::Create(sample, model.inputs()));
    TANDEM_RETURN_IF_ERROR(run.On(instance.get(), &answer));
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
