#pragma once
// Time as an interface, so that tests can make it lie.
#include <cstdint>

namespace tandem {

// Thread-safe. Implementations are owned by the composition root and outlive what uses them.
class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since an arbitrary start; never goes back.
  virtual int64_t MonotonicNanos() const = 0;
  // Milliseconds since 1970-01-01 UTC; may jump.
  virtual int64_t UnixMillis() const = 0;

  // The machine's clock; lives for ever.
  static Clock* Real();
};

// A clock that moves only when told. Thread-compatible.
class FakeClock : public Clock {
 public:
  int64_t MonotonicNanos() const override { return monotonic_nanos_; }
  int64_t UnixMillis() const override { return unix_millis_; }
  void AdvanceMillis(int64_t ms) {
    monotonic_nanos_ += ms * 1'000'000;
    unix_millis_ += ms;
  }
  void SetUnixMillis(int64_t ms) { unix_millis_ = ms; }

 private:
  int64_t monotonic_nanos_ = 1'000'000'000;
  int64_t unix_millis_ = 1'700'000'000'000;
};

}  // namespace tandem
