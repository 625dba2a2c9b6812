#include "serving/lane.h"

#include <algorithm>

#include "base/status.h"
#include "engine/warm_up.h"

namespace tandem::serving {

using Source = SequenceLayout::Source;

absl::Status Lane::WarmUp(int64_t rows, int64_t max_bytes) {
  if (context_.rules.merges()) {
    return engine::WarmUp(*context_.model, instance_.get(), rows, max_bytes, &inputs_, &outputs_);
  }
  std::vector<AlignedBuffer> inputs;  // requests bring their own
  std::vector<Tensor> outputs;
  return engine::WarmUp(*context_.model, instance_.get(), rows, max_bytes, &inputs, &outputs);
}

int64_t Lane::Run(const std::vector<Request*>& requests, int64_t start) {
  Times times;
  cannot_merge_ = false;
  absl::Status status = RunGroup(requests.data(), requests.size(), start, &times);
  const int64_t end = start + times.input_ns + times.infer_ns;
  used_ns.store(end, std::memory_order_relaxed);
  if (status.ok() || requests.size() == 1 || cannot_merge_) {
    for (Request* request : requests) {
      request->status = status;
      request->compute_ns = std::max<int64_t>(1, times.infer_ns);
    }
    return end;
  }
  for (Request* request : requests) {
    request->status = RunGroup(&request, 1, context_.clock->MonotonicNanos(), &times);
    request->compute_ns = std::max<int64_t>(1, times.infer_ns);
  }
  return context_.clock->MonotonicNanos();
}

absl::Status Lane::RunGroup(Request* const* requests, size_t count, int64_t start, Times* times) {
  *times = Times();
  const bool merges = context_.rules.merges();
  int64_t rows = 0;
  for (size_t i = 0; i < count; ++i) rows += requests[i]->rows;
  const int64_t padded = merges ? context_.rules.PaddedRows(rows) : rows;
  absl::Status status =
      count == 1 && padded == rows && !context_.sequences
          ? RunAlone(requests[0], rows, start, times)
          : CatchToStatus(context_.what, [&] { return RunMerged(requests, count, rows, padded, start, times); });
  if (context_.metrics != nullptr) {
    context_.metrics->AddExecution(merges ? rows : 1, times->input_ns, times->infer_ns, times->output_ns);
  }
  return status;
}

absl::Status Lane::RunAlone(Request* request, int64_t rows, int64_t start, Times* times) {
  views_.resize(request->inputs.size());
  for (size_t i = 0; i < views_.size(); ++i) views_[i] = request->inputs[i].view;
  absl::Status status = instance_->Run(views_, &request->outputs);
  times->infer_ns = context_.clock->MonotonicNanos() - start;
  return status.ok() && context_.rules.merges() ? CheckRows(request->outputs, rows) : status;
}

absl::Status Lane::RunMerged(Request* const* requests, size_t count, int64_t rows, int64_t padded, int64_t start,
                             Times* times) {
  Join(requests, count, rows, padded);
  const int64_t joined = context_.clock->MonotonicNanos();
  times->input_ns = joined - start;
  absl::Status status = instance_->Run(views_, &outputs_);
  const int64_t ran = context_.clock->MonotonicNanos();
  times->infer_ns = ran - joined;
  TANDEM_RETURN_IF_ERROR(status);
  if (context_.rules.merges()) TANDEM_RETURN_IF_ERROR(CheckRows(outputs_, padded));
  status = HandOut(requests, count, padded);
  times->output_ns = context_.clock->MonotonicNanos() - ran;
  return status;
}

absl::Status Lane::CheckRows(const std::vector<Tensor>& outputs, int64_t rows) {
  for (const Tensor& output : outputs) {
    absl::Status status = CheckOutputRows(context_.what, output, rows);
    if (status.ok()) continue;
    cannot_merge_ = true;
    return status;
  }
  return absl::OkStatus();
}

void Lane::Join(Request* const* requests, size_t count, int64_t rows, int64_t padded) {
  const std::vector<TensorSignature>& signature = context_.model->inputs();
  views_.resize(signature.size());
  inputs_.resize(signature.size());
  if (context_.sequences) {
    for (size_t i = 0; i < count; ++i) {
      const bool begins = requests[i]->sequence.start || requests[i]->waiting.sequence->states.empty();
      if (begins) ClearStates(*context_.sequences, requests[i]->waiting.sequence);
    }
  }
  for (size_t i = 0; i < signature.size(); ++i) {
    SequenceLayout::Input input;
    input.index = static_cast<int>(i);
    if (context_.sequences) input = context_.sequences->inputs[i];
    Shape shape = input.shape;
    pieces_.clear();
    controls_.clear();
    controls_.reserve(count);  // the pieces point into it
    for (size_t r = 0; r < count; ++r) {
      if (input.source == Source::kClient) {
        const engine::InputView& view = requests[r]->inputs[input.index].view;
        if (r == 0) shape = view.shape;
        pieces_.push_back({view.data, view.byte_size});
      } else if (input.source == Source::kState) {
        const Tensor& state = requests[r]->waiting.sequence->states[input.index];
        if (r == 0) shape = state.shape;
        pieces_.push_back({state.buffer.data(), state.buffer.size()});
      } else {
        controls_.push_back(ControlValue(input.source, signature[i].dtype, *requests[r]));
        pieces_.push_back({controls_.back().data(), controls_.back().size()});
      }
    }
    int64_t have = context_.rules.merges() ? rows : shape.empty() ? 1 : shape[0];
    int64_t want = context_.rules.merges() ? padded : have;
    JoinPieces(pieces_, signature[i].dtype, std::move(shape), have, want, &inputs_[i], &views_[i]);
  }
}

absl::Status Lane::HandOut(Request* const* requests, size_t count, int64_t padded) {
  const SequenceLayout* layout = context_.sequences ? &*context_.sequences : nullptr;
  const size_t visible = layout == nullptr ? outputs_.size() : layout->client_outputs.size();
  for (size_t r = 0; r < count; ++r) requests[r]->outputs.resize(visible);
  size_t client = 0;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Tensor& output = outputs_[i];
    const int state = layout == nullptr ? -1 : layout->state_of[i];
    const size_t place = state < 0 ? client++ : state;
    auto target = [&](Request* request) {
      return state < 0 ? &request->outputs[place] : &request->waiting.sequence->states[place];
    };
    if (!context_.rules.merges()) {
      CopyTensor(output, target(requests[0]));
      continue;
    }
    TANDEM_ASSIGN_OR_RETURN(RowMap map, RowMap::Create(output, padded));
    int64_t row = 0;
    for (size_t r = 0; r < count; ++r) {
      CopyRows(output, map, row, requests[r]->rows, target(requests[r]));
      row += requests[r]->rows;
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem::serving
