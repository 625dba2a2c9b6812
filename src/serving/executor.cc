#include "serving/executor.h"

#include <algorithm>

#include "serving/version_metrics.h"

namespace tandem::serving {

namespace {

thread_local WorkSource::Worker* this_worker = nullptr;

}  // namespace

void Executor::AddLoaded(int priority) {
  std::lock_guard lock(loaded_mutex_);
  if (++loaded_count_[priority] == 1) loaded_.fetch_or(1u << priority);
}

void Executor::RemoveLoaded(int priority) {
  std::lock_guard lock(loaded_mutex_);
  if (--loaded_count_[priority] == 0) loaded_.fetch_and(~(1u << priority));
}

void Executor::Join(Worker* worker) {
  this_worker = worker;
  std::lock_guard lock(mutex_);
  workers_.push_back({worker});
}

void Executor::Leave(Worker* worker) {
  this_worker = nullptr;
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].worker != worker) continue;
    sleepers_ -= workers_[i].sleeping;
    workers_.erase(workers_.begin() + i);
    break;
  }
  if (!active_.empty()) Cover(clock_->MonotonicNanos());  // others take over what it would have run
}

int64_t Executor::BeginSleep(Worker* worker) {
  const int64_t now = clock_->MonotonicNanos();
  std::lock_guard lock(mutex_);
  if (CountDue(now, 1) > 0) return 0;
  int64_t until = NextTime();
  if (until <= now) return 0;
  for (Member& member : workers_) {
    if (member.worker != worker) continue;
    sleepers_ += !member.sleeping;
    member.sleeping = true;
    member.until = until;
  }
  return until;
}

void Executor::EndSleep(Worker* worker) {
  std::lock_guard lock(mutex_);
  for (Member& member : workers_) {
    if (member.worker != worker || !member.sleeping) continue;
    member.sleeping = false;
    --sleepers_;
  }
}

bool Executor::RunOne() {
  if (waiting_.load() == 0) return false;
  Request* dropped = nullptr;
  int instance = -1;
  QueuedModel* model = nullptr;
  const int64_t now = clock_->MonotonicNanos();
  {
    std::lock_guard lock(mutex_);
    DropAllDead(now, &dropped);
    model = TakeDue(now, &instance, &dropped);
    if (model != nullptr) {
      busy_.fetch_add(1);
      Cover(now);
    }
  }
  const bool any = dropped != nullptr;
  FinishDropped(dropped);
  if (model == nullptr) return any;
  model->RunBatch(instance);
  return true;
}

QueuedModel* Executor::TakeDue(int64_t now, int* instance, Request** dropped) {
  while (true) {
    QueuedModel* best = nullptr;
    const Request* first = nullptr;
    for (QueuedModel* model : active_) {
      if (model->IdleInstances() == 0) continue;
      const Request* head = model->queue_.FirstDue(now);
      if (head == nullptr || (first != nullptr && !IsBefore(*head, *first))) continue;
      best = model;
      first = head;
    }
    if (best == nullptr) return nullptr;
    *instance = best->TryTakeInstance();
    if (*instance < 0) continue;  // a request that ran at once was faster
    Request* older = *dropped;
    std::vector<Request*>* batch = best->BatchOf(*instance);
    best->queue_.TakeBatch(now, batch, dropped);
    OnDropped(best, dropped, older);
    Recount(best);
    if (!batch->empty()) return best;
    best->ReleaseInstance(*instance);  // all of the group were cancelled
  }
}

void Executor::DropAllDead(int64_t now, Request** dropped) {
  for (size_t i = active_.size(); i-- > 0;) {
    if (active_[i]->queue_.next_expiry() <= now) DropDead(active_[i], now, dropped);
  }
}

void Executor::DropDead(QueuedModel* model, int64_t now, Request** dropped) {
  Request* older = *dropped;
  model->queue_.TakeDead(now, dropped);
  OnDropped(model, dropped, older);
  Recount(model);
}

// Tells the model of those that were chained since *dropped was `older`.
void Executor::OnDropped(QueuedModel* model, Request** dropped, Request* older) {
  // Held ones first: the end of another may close the sequence that they belong to.
  Request* newest = *dropped;
  for (bool held : {true, false}) {
    for (Request* at = newest; at != older; at = at->waiting.after) {
      if (at->waiting.held == held) model->OnDropped(at, dropped);
    }
  }
}

void Executor::Drop(QueuedModel* model, Request* request, int why, Request** dropped) {
  model->queue_.Remove(request);
  request->waiting.why_dropped = why;
  request->waiting.after = *dropped;
  *dropped = request;
  model->OnDropped(request, dropped);
  Recount(model);
}

void Executor::FinishDropped(Request* dropped) {
  while (dropped != nullptr) {
    Request* next = dropped->waiting.after;
    dropped->waiting.model->FinishDropped(dropped);
    dropped = next;
  }
}

void Executor::Add(QueuedModel* model, Request* request, int64_t now) {
  request->waiting.model = model;
  model->queue_.Add(request);
  Recount(model);
  Cover(now);
}

void Executor::Release(QueuedModel* model, Request* request, int64_t now) {
  model->queue_.Release(request);
  Cover(now);
}

void Executor::Recount(QueuedModel* model) {
  const int count = model->queue_.size();
  const int more = count - model->waiting_.load();
  if (more != 0) {
    model->waiting_.store(count);
    waiting_.fetch_add(more);
    if (model->pending_ != nullptr) model->pending_->fetch_add(more, std::memory_order_relaxed);
  }
  if (count > 0 && model->place_ < 0) {
    model->place_ = static_cast<int>(active_.size());
    active_.push_back(model);
  } else if (count == 0 && model->place_ >= 0) {
    active_.back()->place_ = model->place_;
    active_[model->place_] = active_.back();
    active_.pop_back();
    model->place_ = -1;
  }
}

int Executor::CountDue(int64_t now, int most) const {
  int due = 0;
  for (const QueuedModel* model : active_) {
    if (due >= most) break;
    int idle = model->IdleInstances();
    if (idle > 0) due += model->queue_.CountDue(now, std::min(idle, most - due));
  }
  return due;
}

int64_t Executor::NextTime() const {
  int64_t next = kNever;
  for (const QueuedModel* model : active_) {
    next = std::min(next, model->queue_.next_expiry());
    if (model->IdleInstances() > 0) next = std::min(next, model->queue_.NextDue());
  }
  return next;
}

void Executor::Cover(int64_t now) {
  if (sleepers_ == 0 || active_.empty()) return;
  int free = std::max(0, workers() - sleepers_ - busy_.load());
  const int due = CountDue(now, free + sleepers_);
  for (Member& member : workers_) {
    if (due <= free) break;
    if (!member.sleeping) continue;
    Wake(&member);
    ++free;
  }
  if (free > 0) return;
  // Nobody awake looks at the clock soon: one of the sleepers must.
  const int64_t next = NextTime();
  Member* sleeper = nullptr;
  for (Member& member : workers_) {
    if (!member.sleeping) continue;
    if (member.until <= next) return;
    sleeper = &member;
  }
  if (sleeper != nullptr) Wake(sleeper);
}

void Executor::Wake(Member* member) {
  member->sleeping = false;
  --sleepers_;
  member->worker->Wake();
}

bool Executor::AnyDueBefore(const Request& request, int64_t now) {
  if (waiting_.load() == 0) return false;
  std::lock_guard lock(mutex_);
  for (const QueuedModel* model : active_) {
    if (model->IdleInstances() == 0) continue;
    const Request* head = model->queue_.FirstDue(now);
    if (head != nullptr && IsBefore(*head, request)) return true;
  }
  return false;
}

void Executor::Announce(int64_t expected_ns) {
  if (this_worker != nullptr) this_worker->Occupied(expected_ns);
}

void Executor::RunBegins() {
  busy_.fetch_add(1);
  if (waiting_.load() == 0) return;
  std::lock_guard lock(mutex_);
  Cover(clock_->MonotonicNanos());
}

void Executor::RunEnded(const QueuedModel& model) {
  busy_.fetch_sub(1);
  if (model.waiting() == 0) return;
  std::lock_guard lock(mutex_);
  Cover(clock_->MonotonicNanos());
}

}  // namespace tandem::serving
