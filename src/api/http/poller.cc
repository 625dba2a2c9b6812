#include "api/http/poller.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <system_error>

#include "base/clock.h"

namespace tandem::api::http {
namespace {

constexpr int64_t kNanos = 1'000'000'000;

UniqueFd Checked(int fd, const char* what) {
  if (fd < 0) throw std::system_error(errno, std::generic_category(), what);
  return UniqueFd(fd);
}

}  // namespace

Poller::Poller()
    : epoll_(Checked(epoll_create1(EPOLL_CLOEXEC), "make an epoll descriptor")),
      wake_(Checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "make an eventfd")),
      alarm_(Checked(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "make a timerfd")) {
  // Edge-triggered: each write and each alarm is told once, and nobody needs to read it back.
  for (UniqueFd* own : {&wake_, &alarm_}) {
    epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.ptr = own}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, own->get(), &event) != 0) {
      throw std::system_error(errno, std::generic_category(), "watch an eventfd");
    }
  }
}

bool Poller::Watch(int fd, uint32_t events, Watched* watched) {
  epoll_event event = {.events = events, .data = {.ptr = watched}};
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Poller::Change(int fd, uint32_t events, Watched* watched) {
  epoll_event event = {.events = events, .data = {.ptr = watched}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Poller::Unwatch(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void Poller::Wait(int64_t until_ns) {
  timespec left = {};
  timespec* limit = &left;
  if (until_ns == std::numeric_limits<int64_t>::max()) {
    limit = nullptr;
  } else if (until_ns != 0) {
    const int64_t ns = std::max<int64_t>(0, until_ns - Clock::Real()->MonotonicNanos());
    left = {.tv_sec = ns / kNanos, .tv_nsec = ns % kNanos};
  }
  count_ = epoll_pwait2(epoll_.get(), events_.data(), kMostEvents, limit, nullptr);
  if (count_ < 0 && errno == ENOSYS) {  // Linux before 5.11: milliseconds
    const int64_t ms = left.tv_sec * 1000 + (left.tv_nsec + 999'999) / 1'000'000;
    count_ = epoll_wait(epoll_.get(), events_.data(), kMostEvents,
                        limit == nullptr ? -1 : static_cast<int>(std::min<int64_t>(ms, 60'000)));
  }
  count_ = std::max(count_, 0);  // a signal came
}

Poller::Found Poller::Dispatch() {
  Found found;
  for (int i = 0; i < count_; ++i) {
    void* const what = events_[i].data.ptr;
    if (what == &wake_) {
      found.woken = true;
    } else if (what == &alarm_) {
      found.alarm = true;
    } else {
      static_cast<Watched*>(what)->OnEvents(events_[i].events);
    }
  }
  return found;
}

void Poller::SetAlarm(int64_t at_ns) {
  const itimerspec at = {.it_interval = {}, .it_value = {.tv_sec = at_ns / kNanos, .tv_nsec = at_ns % kNanos}};
  timerfd_settime(alarm_.get(), TFD_TIMER_ABSTIME, &at, nullptr);
}

void Poller::Wake() {
  const uint64_t one = 1;
  // An eventfd takes the write unless its counter is full, and it never gets so far in the life of a process.
  if (write(wake_.get(), &one, sizeof one) < 0) return;
}

}  // namespace tandem::api::http
