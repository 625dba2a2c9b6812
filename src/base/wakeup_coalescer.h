#pragma once
// When a thread that answers requests had better look up less often.
//
// A real-time thread is woken by the first byte that comes, on the CPU where it slept, and takes it from whoever wrote
// that byte. Where clients of the same machine send many requests at a time, each is then read, run and answered alone,
// which costs several times what it costs in a group, and the next client waits for the CPU. Sleeping for a moment
// before the next look lets them finish what they are sending. It is the interrupt moderation of network cards, with
// one rule of its own: whether a moment pays is found out by trying it now and then. It has to bring several requests,
// which a single client that waits for each answer never sends.
#include <time.h>

#include <algorithm>
#include <cstdint>

namespace tandem {

// Used by one thread. Threads that share the clients should have the same pause: theirs end at the same time then.
class WakeupCoalescer {
 public:
  // A pause is about as long as clients take for a handful of requests. It is also what a try may cost the one request
  // that comes during it. `enough`: how many requests it must bring to pay, 2 or more.
  WakeupCoalescer(int64_t pause_ns, int enough) : pause_ns_(pause_ns), enough_(enough) {}

  // To be called when the thread has nothing left to do, with the number of requests since the call before. Gives until
  // when to sleep before it looks again (monotonic nanoseconds); 0 = not at all, wait as usual.
  int64_t Next(int requests, int64_t now_ns) {
    seen_ += requests;
    if (trust_ > 0) {
      // One that brings little is no reason to stop.
      trust_ = std::min(trust_ + (requests >= enough_ ? 1 : -1), kMostTrust);
      until_try_ns_ = trust_ > 0 ? kFirstTryNs : std::min(until_try_ns_ * 2, kLastTryNs);
    } else {
      // All threads try at the same times: alone it would pause for nothing, the others would take the CPU.
      if (now_ns / until_try_ns_ == counted_ns_ / until_try_ns_) return 0;
      trust_ = seen_ * kRareNs >= now_ns - counted_ns_ ? 1 : 0;
    }
    counted_ns_ = now_ns;
    seen_ = 0;
    return trust_ > 0 ? (now_ns + pause_ns_ / 2) / pause_ns_ * pause_ns_ + pause_ns_ : 0;
  }

  static void SleepUntil(int64_t ns) {
    const timespec end = {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, nullptr);  // one that ends early does no harm
  }

 private:
  // Requests that come so seldom do not come in groups, and cost little.
  static constexpr int64_t kRareNs = 500'000;
  static constexpr int kMostTrust = 4;
  static constexpr int64_t kFirstTryNs = 5'000'000, kLastTryNs = 80'000'000;

  const int64_t pause_ns_;
  const int enough_;
  int trust_ = 0;  // > 0: it pauses
  int64_t until_try_ns_ = kFirstTryNs;
  int64_t counted_ns_ = 0, seen_ = 0;  // requests since then
};

}  // namespace tandem
