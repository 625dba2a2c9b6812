#include "api/grpc/io_thread.h"

#include <grpc/support/time.h>
#include <pthread.h>

#include "api/grpc/infer_unary.h"
#include "api/grpc/stream_call.h"
#include "api/grpc/unary_call.h"
#include "base/status.h"

namespace tandem::api::rpc {
namespace {

// Calls of a method that are taken before the thread looks again; further ones wait inside gRPC.
constexpr int kArmedInfer = 32;
constexpr int kArmedOthers = 2;

gpr_timespec ToTimespec(int64_t monotonic_ns) {
  if (monotonic_ns == WorkSource::kNever) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  gpr_timespec time;
  time.tv_sec = monotonic_ns / 1'000'000'000;
  time.tv_nsec = static_cast<int32_t>(monotonic_ns % 1'000'000'000);
  time.clock_type = GPR_CLOCK_MONOTONIC;
  return time;
}

std::unique_ptr<Call> MakeCall(IoThread* thread, size_t index) {
  const Method& method = thread->door()->methods[index];
  if (method.stream) return method.stream(thread, index);
  if (method.codec) return std::make_unique<InferUnary>(thread, index);
  return std::make_unique<UnaryCall>(thread, index);
}

}  // namespace

IoThread::IoThread(Door* door, int index, std::unique_ptr<::grpc::ServerCompletionQueue> queue)
    : door_(door), index_(index), queue_(std::move(queue)), free_(door->methods.size()) {}

IoThread::~IoThread() {
  if (!thread_.joinable() && !stop_.load()) {
    // Never started. A queue must be empty when it goes.
    queue_->Shutdown();
    void* tag;
    bool ok;
    while (queue_->Next(&tag, &ok)) {
    }
  }
}

void IoThread::Start() {
  thread_ = std::thread([this] { Run(); });
  // A server that is shut down before its queues have calls does not always end them.
  armed_.wait(false);
}

void IoThread::Stop() {
  if (!thread_.joinable()) return;
  // Counted, since the thread may see the flag before the alarm is set, and a queue that is shut down takes none.
  posting_.fetch_add(1, std::memory_order_relaxed);
  stop_.store(true);
  Wake();
  posting_.fetch_sub(1, std::memory_order_release);
  thread_.join();
}

void IoThread::Drain() {
  draining_.store(true);
  Wake();
}

void IoThread::Post(Call* call) {
  posting_.fetch_add(1, std::memory_order_relaxed);
  Call* first = posted_.load(std::memory_order_relaxed);
  do {
    call->next_posted = first;
  } while (!posted_.compare_exchange_weak(first, call, std::memory_order_release, std::memory_order_relaxed));
  if (first == nullptr) Wake();
  // The last use of this.
  posting_.fetch_sub(1, std::memory_order_release);
}

void IoThread::Wake() {
  // An alarm can be set once it has fired; one that is on its way serves everybody.
  if (!waking_.exchange(true)) alarm_.Set(queue_.get(), gpr_inf_past(GPR_CLOCK_MONOTONIC), &wake_event_);
}

void IoThread::OnWake(bool) {
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

void IoThread::ArmOne(size_t method) {
  if (free_[method].empty()) {
    calls_.push_back(MakeCall(this, method));
    free_[method].push_back(calls_.back().get());
  }
  Call* call = free_[method].back();
  free_[method].pop_back();
  call->Arm();
}

bool IoThread::Begin(size_t method) {
  if (over_) return false;
  ++open_;
  ArmOne(method);
  return true;
}

void IoThread::Recycle(size_t method, Call* call) {
  --open_;
  free_[method].push_back(call);
}

void IoThread::Run() {
  const std::string name = StrCat("grpc-io-", index_);
  pthread_setname_np(pthread_self(), name.c_str());
  if (door_->settings.on_io_thread) door_->settings.on_io_thread(name);
  for (size_t i = 0; i < door_->methods.size(); ++i) {
    for (int n = door_->methods[i].codec ? kArmedInfer : kArmedOthers; n > 0; --n) ArmOne(i);
  }
  armed_.store(true);
  armed_.notify_all();
  WorkSource* work = door_->services.inference->work();
  work->Join(this);
  Loop();
  over_ = true;
  work->Leave(this);
  // Who posted last may still be on its way out of Post.
  while (posting_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
  queue_->Shutdown();
  void* tag;
  bool ok;
  while (queue_->Next(&tag, &ok)) static_cast<Event*>(tag)->Fire(ok);
}

// One event, one piece of work, in turns: neither keeps the other waiting. The queue's clock has milliseconds, so a
// sleep may end up to one late; threads of other doors that share the work wake in time.
void IoThread::Loop() {
  WorkSource* work = door_->services.inference->work();
  while (true) {
    const bool stops = stop_.load() && open_ == 0;
    const bool worked = stops || work->RunOne();
    const int64_t until = worked ? 0 : work->BeginSleep(this);
    void* tag;
    bool ok;
    auto status = queue_->AsyncNext(&tag, &ok, ToTimespec(until));
    if (!worked) work->EndSleep(this);
    if (status == ::grpc::CompletionQueue::GOT_EVENT) {
      static_cast<Event*>(tag)->Fire(ok);
    } else if (stops) {
      return;
    }
  }
}

}  // namespace tandem::api::rpc
