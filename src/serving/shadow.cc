#include "serving/shadow.h"

#include <algorithm>
#include <cstring>

#include "base/background_class.h"
#include "serving/batch.h"
#include "serving/comparison.h"

namespace tandem::serving {
namespace {

void RunCopy(const ShadowCopy& copy) {
  std::vector<Request::Input> inputs;
  inputs.reserve(copy.inputs.size());
  for (const Tensor& input : copy.inputs) {
    inputs.push_back({input.name, {input.dtype, input.shape, input.buffer.data(), input.buffer.size()}});
  }
  std::vector<Tensor> outputs;
  if (!copy.version->RunInBackground(inputs, &outputs).ok()) return copy.figures->AddFailed();
  copy.figures->AddCompared(copy.answer, outputs);
}

}  // namespace

ShadowFigures::ShadowFigures(Metrics* metrics, const std::string& model, int32_t version) {
  const Labels labels = {{"model", model}, {"version", std::to_string(version)}};
  auto counter = [&](const char* result) {
    Labels with_result = labels;
    with_result.emplace_back("result", result);
    return metrics->AddCounter("tandem_shadow_requests_total",
                               "Copied requests by what became of them: answers equal to the serving version's or "
                               "different, failed, dropped.",
                               with_result);
  };
  equal_ = counter("equal");
  different_ = counter("different");
  failed_ = counter("failed");
  dropped_ = counter("dropped");
  rows_ = metrics->AddCounter("tandem_shadow_rows_total", "Rows of classifiers that were compared.", labels);
  same_class_ = metrics->AddCounter("tandem_shadow_same_class_total",
                                    "Rows of classifiers where both versions name the same class.", labels);
  max_absolute_ = metrics->AddGauge("tandem_shadow_max_absolute_difference",
                                    "The largest difference of an element since the shadow began.", labels);
  max_relative_ = metrics->AddGauge("tandem_shadow_max_relative_difference",
                                    "The largest difference of an element, by its size.", labels);
  max_absolute_->Set(0);
  max_relative_->Set(0);
  before_ = Now();
}

ShadowFigures::Counts ShadowFigures::Now() const {
  return {equal_->Value(),   different_->Value(), failed_->Value(),
          dropped_->Value(), rows_->Value(),      same_class_->Value()};
}

void ShadowFigures::AddCompared(const std::vector<Tensor>& expected, const std::vector<Tensor>& actual) {
  absl::StatusOr<Comparison> result = Compare(expected, actual);
  // Outputs of another form are different; by how much cannot be said.
  if (!result.ok()) return different_->Add(1);
  rows_->Add(result->rows);
  same_class_->Add(result->same_class);
  max_absolute_->Set(std::max(max_absolute_->Value(), result->max_absolute));
  max_relative_->Set(std::max(max_relative_->Value(), result->max_relative));
  (result->equal ? equal_ : different_)->Add(1);  // last: who sees it counted sees how far it was off
}

void ShadowFigures::Read(ShadowReport* report) const {
  const Counts now = Now();
  report->equal = now.equal - before_.equal;
  report->different = now.different - before_.different;
  report->failed = now.failed - before_.failed;
  report->dropped = now.dropped - before_.dropped;
  report->rows = now.rows - before_.rows;
  report->same_class = now.same_class - before_.same_class;
  report->max_absolute = max_absolute_->Value();
  report->max_relative = max_relative_->Value();
}

ShadowCopy::~ShadowCopy() {
  queue->copies_.fetch_sub(1);
  queue->bytes_.fetch_sub(bytes);
}

ShadowQueue::~ShadowQueue() = default;

bool ShadowQueue::Reserve(size_t bytes) {
  if (copies_.fetch_add(1) < kMaxCopies && bytes <= kMaxBytes) {
    if (bytes_.fetch_add(bytes) + bytes <= kMaxBytes) return true;
    bytes_.fetch_sub(bytes);
  }
  copies_.fetch_sub(1);
  return false;
}

std::unique_ptr<ShadowCopy> ShadowQueue::Copy(const Request& request, const ModelHandle& version,
                                              const std::shared_ptr<ShadowFigures>& figures) {
  size_t bytes = 0;
  for (const Request::Input& input : request.inputs) bytes += input.view.byte_size;
  if (!Reserve(bytes)) {
    figures->AddDropped();
    return nullptr;
  }
  auto copy = std::make_unique<ShadowCopy>();
  copy->queue = shared_from_this();
  copy->figures = figures;
  copy->version = version;
  copy->bytes = bytes;
  copy->inputs.reserve(request.inputs.size());
  for (const Request::Input& input : request.inputs) {
    const engine::InputView& view = input.view;
    Tensor& to = copy->inputs.emplace_back();
    to = {std::string(input.name), view.dtype, view.shape, AlignedBuffer(view.byte_size)};
    if (view.byte_size > 0) std::memcpy(to.buffer.data(), view.data, view.byte_size);
  }
  return copy;
}

void ShadowQueue::Push(std::unique_ptr<ShadowCopy> copy, const Request& request) {
  size_t bytes = 0;
  for (const Tensor& output : request.outputs) bytes += output.buffer.size();
  if (bytes_.fetch_add(bytes) + bytes > kMaxBytes) {
    bytes_.fetch_sub(bytes);
    return copy->figures->AddDropped();
  }
  copy->bytes += bytes;
  copy->answer.reserve(request.outputs.size());
  for (const Tensor& output : request.outputs) CopyTensor(output, &copy->answer.emplace_back());
  ShadowCopy* pushed = copy.release();
  pushed->next = newest_.load();
  while (!newest_.compare_exchange_weak(pushed->next, pushed)) {
  }
  waker_.Signal();
}

void ShadowRunner::Stop() {
  stopping_ = true;
  queue_->waker_.Signal();
  if (thread_.joinable()) thread_.join();
}

void ShadowRunner::Loop() {
  EnterBackgroundClass();
  while (true) {
    const uint32_t seen = queue_->waker_.Read();
    const bool stopping = stopping_;
    ShadowCopy* oldest = nullptr;
    for (ShadowCopy* copy = queue_->newest_.exchange(nullptr); copy != nullptr;) {
      ShadowCopy* next = std::exchange(copy->next, oldest);
      oldest = std::exchange(copy, next);
    }
    if (oldest == nullptr) {
      if (stopping) return;
      queue_->waker_.Wait(seen);
    }
    while (oldest != nullptr) {
      std::unique_ptr<ShadowCopy> copy(oldest);
      oldest = copy->next;
      if (!stopping_) RunCopy(*copy);
    }
  }
}

}  // namespace tandem::serving
