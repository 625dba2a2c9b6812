// Prints when the host stopped one of this machine's CPUs: "CPU BEGIN END", Unix seconds, one line for each time that a
// thread of the highest real-time priority, one a CPU, woke up more than 3 ms late. Steal time shows only a part of it.
// Until its standard input is closed. Exits with 1 where real-time priority is not allowed.
#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

namespace {

using Seconds = std::chrono::duration<double>;
constexpr auto kPeriod = std::chrono::microseconds(500);
constexpr auto kLate = std::chrono::milliseconds(3);
std::atomic<bool> over = false;

void Watch(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
  auto last = std::chrono::steady_clock::now();
  while (!over) {
    std::this_thread::sleep_for(kPeriod);
    const auto now = std::chrono::steady_clock::now();
    if (now - last > kLate) {
      const double end = Seconds(std::chrono::system_clock::now().time_since_epoch()).count();
      std::printf("%d %.6f %.6f\n", cpu, end - Seconds(now - last).count(), end);
      std::fflush(stdout);
    }
    last = now;
  }
}

}  // namespace

int main() {
  sched_param highest{.sched_priority = sched_get_priority_max(SCHED_FIFO)};
  if (sched_setscheduler(0, SCHED_FIFO, &highest) != 0) {
    std::perror("SCHED_FIFO");
    return 1;
  }
  cpu_set_t allowed;
  sched_getaffinity(0, sizeof(allowed), &allowed);
  std::vector<std::thread> threads;  // of the same priority
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) threads.emplace_back(Watch, cpu);
  }
  pollfd input{.fd = 0, .events = POLLHUP, .revents = 0};
  poll(&input, 1, -1);
  over = true;
  for (std::thread& thread : threads) thread.join();
}
