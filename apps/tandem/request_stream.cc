#include "tandem/request_stream.h"

#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/status.h"

namespace tandem::cli {
namespace {

// The arrivals, dealt to the threads in order.
class Schedule {
 public:
  Schedule(double rate, double seconds, uint64_t seed, int64_t samples)
      : rate_(rate),
        start_nanos_(Clock::Real()->MonotonicNanos()),
        end_nanos_(seconds > 0 ? start_nanos_ + static_cast<int64_t>(seconds * 1e9) : INT64_MAX),
        gaps_(seed, data::Purpose::kShuffle, 0),
        order_(seed, 0, samples),
        samples_(samples),
        next_nanos_(start_nanos_) {}

  struct Arrival {
    int64_t nanos;
    int64_t sample;
  };
  // Nothing once the time is over.
  std::optional<Arrival> Next() {
    std::lock_guard lock(mutex_);
    next_nanos_ += static_cast<int64_t>(-std::log(1 - gaps_.Uniform()) / rate_ * 1e9);
    if (next_nanos_ > end_nanos_) return std::nullopt;
    return Arrival{next_nanos_, order_(count_++ % samples_)};
  }

 private:
  const double rate_;
  const int64_t start_nanos_, end_nanos_;
  std::mutex mutex_;
  data::RandomStream gaps_;  // guarded by mutex_
  data::Permutation order_;
  const int64_t samples_;
  int64_t count_ = 0;   // guarded by mutex_
  int64_t next_nanos_;  // guarded by mutex_
};

absl::StatusOr<Tensor> InputTensor(const data::Dataset& dataset, const TensorSignature& signature, int64_t sample,
                                   int32_t* label) {
  Tensor tensor{.name = signature.name, .dtype = DType::kFloat32, .shape = dataset.shape()};
  tensor.shape.insert(tensor.shape.begin(), 1);
  TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(tensor.shape));
  tensor.buffer.Resize(elements * sizeof(float));
  TANDEM_RETURN_IF_ERROR(dataset.Get(sample, {tensor.As<float>(), static_cast<size_t>(elements)}, label));
  return tensor;
}

bool IsCorrect(const Tensor& logits, int32_t label) {
  const float* begin = logits.As<float>();
  const float* end = begin + logits.buffer.size() / sizeof(float);
  return logits.dtype == DType::kFloat32 && begin != end && std::max_element(begin, end) - begin == label;
}

class Sender {
 public:
  Sender(const StreamSettings& settings, const data::Dataset& dataset, const TensorSignature& input, Schedule* schedule)
      : settings_(settings), dataset_(dataset), input_(input), schedule_(schedule) {}

  absl::Status Run(const std::function<bool()>& stop, const std::function<void(const StreamRecord&)>& on_record) {
    prctl(PR_SET_TIMERSLACK, 1);  // wake at the arrival, not up to 50 us after it
    TANDEM_ASSIGN_OR_RETURN(auto client, client::Client::Create(settings_.endpoint));
    while (std::optional<Schedule::Arrival> arrival = schedule_->Next()) {
      int32_t label = 0;
      std::vector<Tensor> inputs;
      TANDEM_ASSIGN_OR_RETURN(inputs.emplace_back(), InputTensor(dataset_, input_, arrival->sample, &label));
      std::this_thread::sleep_until(std::chrono::steady_clock::time_point(std::chrono::nanoseconds(arrival->nanos)));
      if (stop()) return absl::OkStatus();
      StreamRecord record;
      record.unix_ms = static_cast<double>(Clock::Real()->UnixMillis()) -
                       static_cast<double>(Clock::Real()->MonotonicNanos() - arrival->nanos) / 1e6;
      absl::StatusOr<client::Inference::Answer> answer = client->inference().Infer(settings_.model, "", inputs);
      record.latency_ms = static_cast<double>(Clock::Real()->MonotonicNanos() - arrival->nanos) / 1e6;
      record.ok = answer.ok() && !answer->outputs.empty();
      if (record.ok) {
        record.version = answer->version;
        record.correct = IsCorrect(answer->outputs[0], label);
      } else {
        record.error = answer.ok() ? "the answer has no output" : std::string(MessageOf(answer.status()));
      }
      on_record(record);
    }
    return absl::OkStatus();
  }

 private:
  const StreamSettings& settings_;
  const data::Dataset& dataset_;
  const TensorSignature& input_;
  Schedule* const schedule_;
};

}  // namespace

absl::Status RunStream(const StreamSettings& settings, const data::Dataset& dataset, const std::function<bool()>& stop,
                       const std::function<void(const StreamRecord&)>& on_record) {
  TANDEM_ASSIGN_OR_RETURN(auto client, client::Client::Create(settings.endpoint));
  TANDEM_ASSIGN_OR_RETURN(auto metadata, client->inference().Describe(settings.model, ""));
  if (metadata.inputs.size() != 1 || metadata.inputs[0].dtype != DType::kFloat32) {
    return InvalidArgument("model '", settings.model,
                           "' does not take one float input: a stream of samples cannot be sent to it");
  }
  Schedule schedule(settings.rate, settings.seconds, settings.seed, dataset.size());
  std::mutex mutex;
  absl::Status first_error;
  std::atomic<bool> failed{false};
  auto stopped = [&] { return failed || stop(); };
  auto record = [&](const StreamRecord& one) {
    std::lock_guard lock(mutex);
    on_record(one);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < settings.connections; ++i) {
    threads.emplace_back([&] {
      absl::Status ran = Sender(settings, dataset, metadata.inputs[0], &schedule).Run(stopped, record);
      if (ran.ok()) return;
      failed = true;
      std::lock_guard lock(mutex);
      first_error.Update(ran);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return first_error;
}

}  // namespace tandem::cli
