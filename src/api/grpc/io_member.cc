#include "api/grpc/io_member.h"

#include <pthread.h>

#include "api/grpc/io_group.h"
#include "base/clock.h"

namespace tandem::api::rpc {
namespace {

// To hand the lead over wakes a thread, which takes a few microseconds of a CPU; others may wait for so long.
constexpr int64_t kLongNs = 100'000;

}  // namespace

void IoMember::Start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), name_.c_str());
    group_->Run(this);
  });
}

void IoMember::Join() {
  if (thread_.joinable()) thread_.join();
}

void IoMember::WaitUntil(int64_t until) {
  while (true) {
    const uint32_t seen = waker_.Read();  // before the look, so that a signal after it ends the wait
    if (signalled_.exchange(false)) return;
    if (until == WorkSource::kNever) {
      waker_.Wait(seen);
      continue;
    }
    const int64_t left = until - Clock::Real()->MonotonicNanos();
    if (left <= 0) return;
    waker_.Wait(seen, left);
  }
}

void IoMember::Signal() {
  signalled_.store(true);
  waker_.Signal();
}

void IoMember::Wake() {
  if (group_->leader_.load() == this) {
    group_->Wake();
  } else {
    Signal();
  }
}

void IoMember::Occupied(int64_t expected_ns) {
  if (expected_ns == 0 || expected_ns > kLongNs) group_->HandOver(this);
}

}  // namespace tandem::api::rpc
