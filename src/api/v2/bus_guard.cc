#include "api/v2/bus_guard.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <utility>

#include "base/status.h"

namespace tandem::api::v2 {
namespace {

// Read by the signal handler, so nothing but lock-free atomics in static memory.
struct Slot {
  std::atomic<bool> used{false};
  std::atomic<uintptr_t> begin{0};  // 0 = not guarded; set last and cleared first
  std::atomic<size_t> size{0};
  std::atomic<bool> hit{false};
};
std::array<Slot, BusGuard::kMostRanges> slots;
struct sigaction before;

void PassOn(int signal, siginfo_t* info, void* context) {
  if ((before.sa_flags & SA_SIGINFO) != 0) return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
  // The instruction is tried again, and then ends the process as if this handler had never been there.
  ::signal(signal, SIG_DFL);
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto at = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Slot& slot : slots) {
    const uintptr_t begin = slot.begin.load();
    const size_t size = slot.size.load();
    if (begin == 0 || at < begin || at - begin >= size) continue;
    void* zeros = mmap(reinterpret_cast<void*>(begin), size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) break;
    slot.hit.store(true);
    errno = saved_errno;
    return;
  }
  PassOn(signal, info, context);
  errno = saved_errno;
}

absl::Status Install() {
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, nullptr, &before) != 0 || sigaction(SIGBUS, &action, nullptr) != 0) {
    return Internal("cannot handle SIGBUS, without which shared memory is not safe to use (errno ", errno, ")");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BusGuard> BusGuard::Create(void* begin, size_t size) {
  static const absl::Status installed = Install();
  TANDEM_RETURN_IF_ERROR(installed);
  for (int i = 0; i < kMostRanges; ++i) {
    Slot& slot = slots[i];
    if (slot.used.exchange(true)) continue;
    slot.hit.store(false);
    slot.size.store(size);
    slot.begin.store(reinterpret_cast<uintptr_t>(begin));
    return BusGuard(i);
  }
  return ResourceExhausted("more than ", kMostRanges, " regions of shared memory are in use; unregister some");
}

BusGuard::BusGuard(BusGuard&& other) noexcept : slot_(std::exchange(other.slot_, -1)) {}

BusGuard::~BusGuard() {
  if (slot_ < 0) return;
  slots[slot_].begin.store(0);
  slots[slot_].used.store(false);
}

bool BusGuard::hit() const { return slots[slot_].hit.load(); }

}  // namespace tandem::api::v2
