#pragma once
// A data-plane thread of an IoGroup.
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

#include "base/waker.h"
#include "base/work_source.h"

namespace tandem::api::rpc {

class IoGroup;

class IoMember : public WorkSource::Worker {
 public:
  IoMember(IoGroup* group, std::string name) : group_(group), name_(std::move(name)) {}

  void Start();
  void Join();
  const std::string& name() const { return name_; }

  // On its thread, while it does not lead: sleeps, at most until then (monotonic nanoseconds).
  void WaitUntil(int64_t until);
  // From any thread: ends WaitUntil, or the next one at once.
  void Signal();
  // From any thread: true for one caller, if it is in BeginsToWait ... EndsToWait.
  bool Choose() { return waits_.exchange(false); }
  void BeginsToWait() { waits_.store(true); }
  void EndsToWait() { waits_.store(false); }

  void Wake() override;
  void Occupied(int64_t expected_ns) override;

 private:
  IoGroup* const group_;
  const std::string name_;
  std::atomic<bool> waits_ = false;
  // No mutex: serving's loader, of the background class, wakes too when what requests wait for was loaded.
  std::atomic<bool> signalled_ = false;
  Waker waker_;
  std::thread thread_;
};

}  // namespace tandem::api::rpc
