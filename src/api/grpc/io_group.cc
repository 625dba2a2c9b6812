#include "api/grpc/io_group.h"

#include <grpc/support/time.h>

#include <thread>
#include <utility>

#include "api/grpc/infer_unary.h"
#include "api/grpc/stream_call.h"
#include "api/grpc/unary_call.h"
#include "base/clock.h"
#include "base/status.h"

namespace tandem::api::rpc {
namespace {

// Calls of a method that are taken before the leader looks again; further ones wait inside gRPC.
constexpr int kArmedInfer = 32;
constexpr int kArmedOthers = 2;

// A request read, decoded and answered alone costs about 50 us here, in a group 20 us; a client takes about 25 us.
constexpr int64_t kPauseNs = 200'000;
constexpr int kPauseBrings = 2;
// A look at the sockets reads from one of them, which need not end in an event.
constexpr int kLooks = 4;

thread_local IoMember* this_member = nullptr;

gpr_timespec ToTimespec(int64_t monotonic_ns) {
  if (monotonic_ns == WorkSource::kNever) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  gpr_timespec time;
  time.tv_sec = monotonic_ns / 1'000'000'000;
  time.tv_nsec = static_cast<int32_t>(monotonic_ns % 1'000'000'000);
  time.clock_type = GPR_CLOCK_MONOTONIC;
  return time;
}

std::unique_ptr<Call> MakeCall(IoGroup* group, size_t index) {
  const Method& method = group->door()->methods[index];
  if (method.stream) return method.stream(group, index);
  if (method.codec) return std::make_unique<InferUnary>(group, index);
  return std::make_unique<UnaryCall>(group, index);
}

}  // namespace

IoGroup::IoGroup(Door* door, int first_index, int threads, std::unique_ptr<::grpc::ServerCompletionQueue> queue)
    : door_(door),
      work_(door->services.inference->work()),
      queue_(std::move(queue)),
      free_(door->methods.size()),
      coalescer_(kPauseNs, kPauseBrings) {
  for (int i = 0; i < threads; ++i) {
    members_.push_back(std::make_unique<IoMember>(this, StrCat("grpc-io-", first_index + i)));
  }
}

IoGroup::~IoGroup() {
  // A queue must be empty when it goes.
  if (!armed_.load()) Empty();
}

void IoGroup::Start() {
  for (const auto& member : members_) member->Start();
  // A server that is shut down before its queues have calls does not always end them.
  armed_.wait(false);
}

void IoGroup::Stop() {
  if (!armed_.load()) return;
  // Counted, since the leader may see the flag before the alarm is set, and a queue that is shut down takes none.
  posting_.fetch_add(1, std::memory_order_relaxed);
  stop_.store(true);
  Wake();
  posting_.fetch_sub(1, std::memory_order_release);
  for (const auto& member : members_) member->Join();
}

void IoGroup::Drain() {
  draining_.store(true);
  Wake();
}

void IoGroup::Post(Call* call) {
  posting_.fetch_add(1, std::memory_order_relaxed);
  Call* first = posted_.load(std::memory_order_relaxed);
  do {
    call->next_posted = first;
  } while (!posted_.compare_exchange_weak(first, call, std::memory_order_release, std::memory_order_relaxed));
  if (first == nullptr) Wake();
  // The last use of this.
  posting_.fetch_sub(1, std::memory_order_release);
}

void IoGroup::Wake() {
  // An alarm can be set once it has fired; one that is on its way serves everybody.
  if (!waking_.exchange(true)) alarm_.Set(queue_.get(), gpr_inf_past(GPR_CLOCK_MONOTONIC), &wake_event_);
}

void IoGroup::OnWake(bool) {
  // First: what is posted after this wakes again.
  waking_.store(false);
  if (draining_.exchange(false)) {
    for (Call* call : std::vector<Call*>(streams_.begin(), streams_.end())) call->Drain();
  }
  Call* next = posted_.exchange(nullptr, std::memory_order_acquire);
  while (next != nullptr) {
    Call* call = next;
    next = call->next_posted;
    call->OnPosted();
  }
}

void IoGroup::ArmOne(size_t method) {
  if (free_[method].empty()) {
    calls_.push_back(MakeCall(this, method));
    free_[method].push_back(calls_.back().get());
  }
  Call* call = free_[method].back();
  free_[method].pop_back();
  call->Arm();
}

void IoGroup::ArmAll() {
  for (size_t i = 0; i < door_->methods.size(); ++i) {
    for (int n = door_->methods[i].codec ? kArmedInfer : kArmedOthers; n > 0; --n) ArmOne(i);
  }
  armed_.store(true);
  armed_.notify_all();
}

bool IoGroup::Begin(size_t method) {
  if (over()) return false;
  ++open_;
  ++begun_;
  ArmOne(method);
  return true;
}

void IoGroup::Recycle(size_t method, Call* call) {
  --open_;
  free_[method].push_back(call);
}

bool IoGroup::Leads() const { return this_member != nullptr && leader_.load() == this_member; }

void IoGroup::StepAside() {
  if (this_member != nullptr) HandOver(this_member);
}

void IoGroup::Run(IoMember* member) {
  this_member = member;
  if (door_->settings.on_io_thread) door_->settings.on_io_thread(member->name());
  work_->Join(member);
  while (!over()) {
    IoMember* nobody = nullptr;
    if (leader_.compare_exchange_strong(nobody, member)) {
      Lead(member);
    } else if (!work_->RunOne()) {
      Follow(member);
    }
  }
  work_->Leave(member);
  // After it left: whoever wakes the leader sets the alarm.
  if (leader_.load() == member) Empty();
}

void IoGroup::HandOver(IoMember* member) {
  if (members_.size() == 1 || leader_.load() != member) return;
  leader_.store(nullptr);
  // Where all are busy, the first that has finished takes it.
  for (const auto& other : members_) {
    if (other.get() != member && other->Choose()) return other->Signal();
  }
}

void IoGroup::Follow(IoMember* member) {
  const int64_t until = work_->BeginSleep(member);
  member->BeginsToWait();
  if (until > 0 && leader_.load() != nullptr && !over()) member->WaitUntil(until);
  member->EndsToWait();
  work_->EndSleep(member);
}

// One event, one piece of work, in turns: neither keeps the other waiting.
void IoGroup::Lead(IoMember* member) {
  if (!armed_.load()) ArmAll();
  while (leader_.load() == member && !over()) {
    if (stop_.load() && open_ == 0) {
      End();
    } else if (int64_t pause_end = coalescer_.Next(std::exchange(begun_, 0), Clock::Real()->MonotonicNanos())) {
      WakeupCoalescer::SleepUntil(pause_end);
      Gather(member);
    } else if (!work_->RunOne()) {
      Sleep(member);
    } else if (leader_.load() == member) {
      FireNext();
    }
  }
}

void IoGroup::Gather(IoMember* member) {
  for (int fruitless = 0; fruitless < kLooks && leader_.load() == member;) {
    fruitless = FireNext() ? 0 : fruitless + 1;
    if (leader_.load() == member && work_->RunOne()) fruitless = 0;
  }
}

IoGroup::Next IoGroup::WaitUntil(int64_t until) {
  void* tag;
  Next next;
  if (queue_->AsyncNext(&tag, &next.ok, ToTimespec(until)) == ::grpc::CompletionQueue::GOT_EVENT) {
    next.event = static_cast<Event*>(tag);
  }
  return next;
}

bool IoGroup::FireNext() {
  const Next next = WaitUntil(0);
  if (next.event != nullptr) next.event->Fire(next.ok);
  return next.event != nullptr;
}

// The queue's clock has milliseconds, so a sleep may end up to one late; other threads that share the work wake in
// time.
void IoGroup::Sleep(IoMember* member) {
  const Next next = WaitUntil(work_->BeginSleep(member));
  work_->EndSleep(member);
  if (next.event != nullptr) next.event->Fire(next.ok);
}

void IoGroup::End() {
  while (FireNext()) {
  }
  over_.store(true);
  for (const auto& member : members_) member->Signal();
}

void IoGroup::Empty() {
  // Who posted last may still be on its way out of Post.
  while (posting_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
  queue_->Shutdown();
  void* tag;
  bool ok;
  while (queue_->Next(&tag, &ok)) static_cast<Event*>(tag)->Fire(ok);
}

}  // namespace tandem::api::rpc
