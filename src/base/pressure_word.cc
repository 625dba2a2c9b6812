#include "base/pressure_word.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/fd.h"
#include "base/status.h"

namespace tandem {
namespace {

static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == sizeof(uint32_t),
              "the kernel compares the word itself");

// Without FUTEX_PRIVATE_FLAG: the sleeper is another process.
long Futex(std::atomic<uint32_t>* word, int operation, uint32_t value, const timespec* timeout) {
  return syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
}

absl::StatusOr<std::atomic<uint32_t>*> Map(int fd, int protection, const std::filesystem::path& file) {
  void* memory = mmap(nullptr, sizeof(uint32_t), protection, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return ErrnoStatus(errno, StrCat("map '", file.string(), "'"));
  return static_cast<std::atomic<uint32_t>*>(memory);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PressureWord>> PressureWord::Create(const std::filesystem::path& file,
                                                                   uint32_t allowed) {
  // A new file under the name, never an emptied one: a trainer that outlived its daemon may still map that.
  if (unlink(file.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, StrCat("remove '", file.string(), "'"));
  UniqueFd fd(open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("create '", file.string(), "'"));
  TANDEM_RETURN_IF_ERROR(WriteAll(fd.get(), {reinterpret_cast<const char*>(&allowed), sizeof(allowed)}));
  TANDEM_ASSIGN_OR_RETURN(std::atomic<uint32_t> * word, Map(fd.get(), PROT_READ | PROT_WRITE, file));
  return std::unique_ptr<PressureWord>(new PressureWord(word, file));
}

absl::StatusOr<std::unique_ptr<PressureWord>> PressureWord::Open(const std::filesystem::path& file) {
  UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", file.string(), "'"));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("look at '", file.string(), "'"));
  if (!S_ISREG(info.st_mode) || info.st_size != sizeof(uint32_t)) {
    return FailedPrecondition("'", file.string(), "' is not a pressure word: it has ", info.st_size,
                              " bytes, must have 4; the daemon makes it when it starts the job");
  }
  // Read-only: the trainer cannot open its own gate.
  TANDEM_ASSIGN_OR_RETURN(std::atomic<uint32_t> * word, Map(fd.get(), PROT_READ, file));
  return std::unique_ptr<PressureWord>(new PressureWord(word, {}));
}

PressureWord::~PressureWord() {
  munmap(word_, sizeof(uint32_t));
  if (!owned_.empty()) unlink(owned_.c_str());
}

void PressureWord::Set(uint32_t allowed) {
  if (word_->exchange(allowed, std::memory_order_acq_rel) != allowed) Futex(word_, FUTEX_WAKE, INT_MAX, nullptr);
}

uint32_t PressureWord::WaitForChange(uint32_t seen, int timeout_ms) const {
  const int64_t deadline = Clock::Real()->MonotonicNanos() + int64_t{timeout_ms} * 1'000'000;
  while (true) {
    const uint32_t now = Read();
    const int64_t left = deadline - Clock::Real()->MonotonicNanos();
    if (now != seen || left <= 0) return now;
    const timespec timeout = {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
    // It returns for a change, the time, a signal or no reason: the loop looks again.
    Futex(word_, FUTEX_WAIT, seen, &timeout);
  }
}

}  // namespace tandem
