#include "api/grpc/io_member.h"

#include <pthread.h>

#include <chrono>

#include "api/grpc/io_group.h"

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
  std::unique_lock lock(mutex_);
  const auto signalled = [this] { return signalled_; };
  if (until == WorkSource::kNever) {
    signal_.wait(lock, signalled);
  } else {
    signal_.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(until)), signalled);
  }
  signalled_ = false;
}

void IoMember::Signal() {
  std::lock_guard lock(mutex_);
  signalled_ = true;
  signal_.notify_one();
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
