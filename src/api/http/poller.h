#pragma once
// What a data-plane thread waits on: its sockets, a time, an alarm, and being woken.
#include <sys/epoll.h>

#include <array>
#include <cstdint>

#include "base/fd.h"

namespace tandem::api::http {

// Something with a descriptor. Unwatched before its descriptor is closed.
class Watched {
 public:
  virtual ~Watched() = default;
  // EPOLLIN and so on. May end this object, but no other one that is watched.
  virtual void OnEvents(uint32_t events) = 0;
};

// Everything but Wake is called by one thread, or before it starts.
class Poller {
 public:
  // Throws std::system_error when the process has no descriptor left.
  Poller();

  // False when the kernel refuses (errno says why).
  bool Watch(int fd, uint32_t events, Watched* watched);
  // Other events for what is watched; 0 = none for now.
  void Change(int fd, uint32_t events, Watched* watched);
  void Unwatch(int fd);

  // Sleeps until something comes, at most until until_ns (monotonic; 0 = not at all, INT64_MAX = without end).
  void Wait(int64_t until_ns);
  int count() const { return count_; }  // what Wait found
  struct Found {
    bool woken = false, alarm = false;
  };
  // Hands out what Wait found.
  Found Dispatch();
  // Once, at a monotonic time; instead of what was set before. A sleep that has no other end costs nothing then, while
  // a time to wake up at is set and taken back by the kernel each time.
  void SetAlarm(int64_t at_ns);
  // From any thread: ends the Wait, or the next one at once. One system call.
  void Wake();

 private:
  static constexpr int kMostEvents = 64;
  UniqueFd epoll_, wake_, alarm_;
  std::array<epoll_event, kMostEvents> events_;
  int count_ = 0;
};

}  // namespace tandem::api::http
