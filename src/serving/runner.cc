#include "serving/runner.h"

#include <algorithm>

#include "base/status.h"
#include "base/text.h"
#include "serving/input_check.h"

namespace tandem::serving {
namespace {

constexpr int kLevelBits = 5;         // of a rank; above them the model's priority
constexpr uint32_t kLastClass = 31;   // after all models
constexpr double kBudgetRetry = 0.1;  // seconds

double Seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

int64_t Sum(int64_t ns, int64_t more) { return ns > INT64_MAX - more ? INT64_MAX : ns + more; }

}  // namespace

void ModelRunner::Submit(Request* request, bool at_once) {
  request->queue_ns = request->compute_ns = 0;
  request->cached = false;
  absl::Status wrong = Check(request);
  if (!wrong.ok()) {
    request->status = std::move(wrong);
    return request->owner->Finished(request);
  }
  if (cpu_budget_ != nullptr && !cpu_budget_->Admit(priority_)) {
    return Refuse(
        request, Decision::kBudget,
        WithRetryAfter(Unavailable(context_.what, ": serving has used its share of the CPU; try again later, ",
                                   "or raise serving.cpu (tandem policy set)"),
                       kBudgetRetry));
  }
  if (caches_ && !request->in_shared_memory && AnswerFromCache(request)) return;
  const int64_t now = context_.clock->MonotonicNanos();
  Arrange(request, now);
  // More urgent models may be asked by what the door has not read yet: the order is known when it has read all. And
  // what waits for no more than a thread has its turn first, of all models: a version that has just taken over would
  // else keep the last requests of the former one waiting for as long as the doors find others to read.
  if (at_once && may_run_at_once_ && waiting() == 0 && request->priority != Request::kAfterAllOthers &&
      request->waiting.expires_ns > Sum(now, service_.nanos()) && executor_->IsMostUrgent(priority_) &&
      !executor_->AnyDueBefore(*request, now)) {
    const int instance = pool_.TryTake();
    if (instance >= 0) return RunAtOnce(instance, request, now);
  }
  Enqueue(request, now);
}

absl::Status ModelRunner::Check(Request* request) const {
  const auto& inputs = context_.sequences ? context_.sequences->client_inputs : model_->inputs();
  TANDEM_RETURN_IF_ERROR(CheckInputs(context_.what, inputs, &request->inputs));
  request->rows = 1;
  if (!request->inputs.empty() && !request->inputs[0].view.shape.empty()) {
    request->rows = request->inputs[0].view.shape[0];
  }
  if (context_.sequences && !request->sequence.text_id.empty() && context_.sequences->id_is_number) {
    return InvalidArgument(context_.what, ": sequence_id must be a number, the model takes no text");
  }
  if (!context_.rules.merges()) {
    // Rows without bytes cost nothing to send, and a few requests with 2^62 of them would make the sums wrap.
    const bool empty = !request->inputs.empty() && request->inputs[0].view.byte_size == 0;
    if (empty) request->rows = std::min(request->rows, BatchSums::kMaxRows);
    return absl::OkStatus();
  }
  TANDEM_RETURN_IF_ERROR(CheckRows(context_.what, request->inputs));
  if (request->rows > context_.rules.max_rows) {
    return InvalidArgument(context_.what, ": the request has ", request->rows, " rows, max_batch_size is ",
                           context_.rules.max_rows);
  }
  if (context_.sequences && request->rows != 1) {
    return InvalidArgument(context_.what, ": the request has ", request->rows, " rows, one of a sequence must have 1");
  }
  return absl::OkStatus();
}

uint32_t ModelRunner::RankOf(const Request& request) const {
  if (request.priority == Request::kAfterAllOthers) return kLastClass << kLevelBits;
  uint32_t level = 0;
  if (config_.priority_levels > 0) {
    const auto levels = static_cast<uint32_t>(config_.priority_levels);
    const uint32_t usual = config_.default_priority > 0 ? config_.default_priority : (levels + 1) / 2;
    level = std::min(request.priority == 0 ? usual : request.priority, levels);
  }
  return (static_cast<uint32_t>(priority_) << kLevelBits) + level;
}

void ModelRunner::Arrange(Request* request, int64_t now) const {
  Request::Waiting& waiting = request->waiting;
  waiting.model = nullptr;
  waiting.sequence = nullptr;
  waiting.held = waiting.starved = false;
  waiting.arrival_ns = now;
  const bool asked = request->deadline_nanos != 0;
  waiting.expires_ns = asked ? request->deadline_nanos : Sum(now, timeout_ns_);
  waiting.order_ns = asked                    ? request->deadline_nanos
                     : slo_ns_ > 0            ? Sum(now, slo_ns_)
                     : config_.timeout_ms > 0 ? waiting.expires_ns
                                              : INT64_MAX;
  waiting.rank = RankOf(*request);
  // Whoever has little time does not spend it all on waiting for others.
  waiting.ripe_ns = now + std::clamp<int64_t>((waiting.expires_ns - now) / 2, 0, context_.rules.delay_ns);
  waiting.byte_size = 0;
  for (const Request::Input& input : request->inputs) waiting.byte_size += input.view.byte_size;
  waiting.shape_key = context_.rules.merges() ? ShapeKey(*request) : 0;
}

void ModelRunner::Refuse(Request* request, Decision why, absl::Status status) {
  if (!absl::IsInvalidArgument(status)) {
    request->queue_ns = 1;  // counted as rejected
    metrics_->AddDecision(why);
  }
  request->status = std::move(status);
  request->owner->Finished(request);
}

bool ModelRunner::AnswerFromCache(Request* request) {
  const int64_t start = context_.clock->MonotonicNanos();
  std::string key = ResponseCache::KeyOf(load_number_, *request);
  ResponseCache::Answer answer = plane_->cache.Find(key);
  if (answer != nullptr) {
    request->outputs.resize(answer->size());
    for (size_t i = 0; i < answer->size(); ++i) CopyTensor((*answer)[i], &request->outputs[i]);
    request->cached = true;
    request->status = absl::OkStatus();
    metrics_->cache_hit_count.Add(1);
    metrics_->cache_hit_ns.Add(context_.clock->MonotonicNanos() - start);
    request->owner->Finished(request);
    return true;
  }
  request->waiting.cache_key = std::move(key);
  metrics_->cache_miss_count.Add(1);
  metrics_->cache_miss_ns.Add(context_.clock->MonotonicNanos() - start);
  return false;
}

void ModelRunner::KeepAnswer(const Request& request) {
  if (!request.status.ok() || request.waiting.cache_key.empty()) return;
  const int64_t start = context_.clock->MonotonicNanos();
  plane_->cache.Insert(request.waiting.cache_key, request.outputs);
  metrics_->cache_miss_ns.Add(context_.clock->MonotonicNanos() - start);
}

void ModelRunner::RunAtOnce(int instance, Request* request, int64_t now) {
  executor_->RunBegins();
  Executor::Announce(service_.nanos());
  Lane& lane = *lanes_[instance];
  lane.batch.assign(1, request);
  service_.Observe(lane.Run(lane.batch, now) - now);
  pool_.Release(instance);
  executor_->RunEnded(*this);
  if (caches_) KeepAnswer(*request);
  request->owner->Finished(request);
}

void ModelRunner::Enqueue(Request* request, int64_t now) {
  Request* dropped = nullptr;
  Decision why{};
  absl::Status refused;
  {
    std::lock_guard lock(executor_->mutex());
    refused = Admit(request, now, &why, &dropped);
    if (refused.ok()) executor_->Add(this, request, now);
  }
  // Where it was admitted, it may be answered by now, and this be gone.
  if (!refused.ok()) Refuse(request, why, std::move(refused));
  Executor::FinishDropped(dropped);
}

absl::Status ModelRunner::Admit(Request* request, int64_t now, Decision* why, Request** dropped) {
  *why = Decision::kExpired;
  if (request->waiting.expires_ns <= now) {
    return DeadlineExceeded(context_.what, ": the request's deadline had passed when it arrived");
  }
  *why = Decision::kTooLate;
  TANDEM_RETURN_IF_ERROR(CheckDeadline(*request, now));
  *why = Decision::kQueueFull;
  TANDEM_RETURN_IF_ERROR(MakeRoom(*request, now, why, dropped));
  request->waiting.starved = pool_.idle() == 0;
  if (request->waiting.starved && pool_.size() < MostInstances()) plane_->Starve();
  if (!sequences_) return absl::OkStatus();
  *why = Decision::kSequence;
  return EnterSequence(request, now);
}

absl::Status ModelRunner::CheckDeadline(const Request& request, int64_t now) {
  const int64_t service = service_.nanos();
  if (service == 0) return absl::OkStatus();
  const int64_t allowed = request.waiting.expires_ns - now;
  // As many runs at the same time as there are instances and threads for them.
  const int workers = executor_->workers();
  const int parallel = std::max(1, workers == 0 ? pool_.size() : std::min(workers, pool_.size()));
  const int64_t batches = queue_.RowsBefore(request) / context_.rules.FullRows();
  const int64_t needed = service * (batches / parallel + 1) + (pool_.idle() == 0 ? service / 2 : 0);
  if (needed <= allowed) return absl::OkStatus();
  service_.Doubt();
  return WithRetryAfter(Unavailable(context_.what, ": the answer would take ", HumanSeconds(Seconds(needed)),
                                    ", by what was measured, but the request's deadline is in ",
                                    HumanSeconds(Seconds(allowed)), "; try again later, or allow more time"),
                        Seconds(needed - allowed));
}

absl::Status ModelRunner::FullStatus() const {
  const int64_t turn = service_.nanos() * std::max(1, queue_.size()) / std::max(1, pool_.size());
  return WithRetryAfter(
      Unavailable("queue of ", context_.what, " is full (", queue_.size(), " waiting); try again later"),
      std::max(Seconds(turn), 0.001));
}

absl::Status ModelRunner::MakeRoom(const Request& request, int64_t now, Decision* why, Request** dropped) {
  const int limit = queue_limit_ + pool_.idle();  // who will be taken at once does not wait
  const size_t size = request.waiting.byte_size;
  // Of a request that waits alone no size is too large.
  auto fits = [&](int count, size_t bytes) { return count < limit && (count == 0 || bytes + size <= queue_bytes_); };
  if (fits(queue_.size(), queue_.bytes())) return absl::OkStatus();
  executor_->DropDead(this, now, dropped);
  if (fits(queue_.size(), queue_.bytes())) return absl::OkStatus();
  int count = 0;
  size_t bytes = 0;
  queue_.CountBehind(request.waiting.rank, &count, &bytes);
  *why = Decision::kQueueFull;
  if (!fits(queue_.size() - count, queue_.bytes() - bytes)) return FullStatus();
  while (!fits(queue_.size(), queue_.bytes())) {
    executor_->Drop(this, queue_.Last(), static_cast<int>(Decision::kShed), dropped);
  }
  return absl::OkStatus();
}

bool ModelRunner::Continues(const Request& request) const {
  if (layout() == nullptr) return false;
  std::lock_guard lock(executor_->mutex());
  return sequences_->Has(request.sequence, context_.clock->MonotonicNanos());
}

bool ModelRunner::HasOpenSequences() {
  if (layout() == nullptr) return false;
  std::lock_guard lock(executor_->mutex());
  return sequences_->AnyOpen(context_.clock->MonotonicNanos());
}

absl::Status ModelRunner::EnterSequence(Request* request, int64_t now) {
  TANDEM_ASSIGN_OR_RETURN(OpenSequence * sequence, sequences_->Find(*request, now));
  request->waiting.sequence = sequence;
  if (sequence->taken) {
    request->waiting.held = true;
  } else {
    sequence->taken = true;
    sequence->broken = false;
  }
  // No batch with others unless the model's states allow it.
  if (!context_.sequences->merges) request->waiting.shape_key = sequence->number;
  return absl::OkStatus();
}

void ModelRunner::LeaveSequence(const Request& request, bool ran, int64_t now, Request** dropped) {
  OpenSequence* sequence = request.waiting.sequence;
  sequence->used_ns = now;
  sequence->taken = false;
  if (request.sequence.start && !ran) sequence->broken = true;
  bool over = request.sequence.end || sequence->broken;
  while (Request* next = queue_.FirstHeld(sequence)) {
    if (!over || next->sequence.start) {
      sequence->taken = true;
      sequence->broken = false;
      return executor_->Release(this, next, now);
    }
    // Held requests do not come back here: they are chained, and their turn was not theirs.
    executor_->Drop(this, next, static_cast<int>(Decision::kSequence), dropped);
  }
  if (over) sequences_->Close(sequence);
}

void ModelRunner::OnDropped(Request* request, Request** dropped) {
  OpenSequence* sequence = request->waiting.sequence;
  if (sequence == nullptr) return;
  if (!request->waiting.held) return LeaveSequence(*request, false, context_.clock->MonotonicNanos(), dropped);
  // What follows a start that never ran must not go on with the state of an earlier sequence.
  if (request->sequence.start) sequence->broken = true;
}

void ModelRunner::RunBatch(int instance) {
  Lane& lane = *lanes_[instance];
  const int64_t start = context_.clock->MonotonicNanos();
  int64_t starved = 0;
  for (Request* request : lane.batch) {
    request->queue_ns = std::max<int64_t>(1, start - request->waiting.arrival_ns);
    if (request->waiting.starved) starved = std::max(starved, request->queue_ns - context_.rules.delay_ns);
  }
  if (starved > 0) starved_ns_.Add(starved);
  Executor::Announce(service_.nanos());
  const int64_t end = lane.Run(lane.batch, start);
  service_.Observe(end - start);
  Request* first = nullptr;
  for (size_t i = lane.batch.size(); i-- > 0;) {  // chained: once the instance is given back, its batch is another's
    lane.batch[i]->waiting.after = first;
    first = lane.batch[i];
  }
  Request* dropped = nullptr;
  if (sequences_) {
    std::lock_guard lock(executor_->mutex());
    for (Request* at = first; at != nullptr; at = at->waiting.after) {
      LeaveSequence(*at, at->status.ok(), end, &dropped);
    }
  }
  pool_.Release(instance);
  executor_->RunEnded(*this);
  while (first != nullptr) {
    Request* next = first->waiting.after;
    if (caches_) KeepAnswer(*first);
    first->owner->Finished(first);
    first = next;
  }
  Executor::FinishDropped(dropped);
}

void ModelRunner::FinishDropped(Request* request) {
  const int64_t waited = context_.clock->MonotonicNanos() - request->waiting.arrival_ns;
  const auto why = static_cast<Decision>(request->waiting.why_dropped);
  metrics_->AddDecision(why);
  request->queue_ns = why == Decision::kCancelled ? 0 : std::max<int64_t>(1, waited);
  switch (why) {
    case Decision::kExpired:
      request->status =
          DeadlineExceeded(context_.what, ": no instance became free within ", HumanSeconds(Seconds(waited)));
      break;
    case Decision::kCancelled:
      request->status = Cancelled(context_.what, ": the client gave the request up while it waited");
      break;
    case Decision::kSequence:
      request->status = FailedPrecondition(context_.what, ": the sequence ended before this request of it");
      break;
    default:
      request->status = WithRetryAfter(Unavailable("queue of ", context_.what, " is full (", waiting(),
                                                   " waiting), and more urgent requests came; try again later"),
                                       std::max(Seconds(service_.nanos()), 0.001));
  }
  request->owner->Finished(request);
}

}  // namespace tandem::serving
