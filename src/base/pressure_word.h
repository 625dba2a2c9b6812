#pragma once
// One shared 32-bit word per job: how many of its training threads may run now; 0 = give way. The daemon writes it, the
// trainer sleeps on it (futex), so that a change costs no message and is seen within microseconds between two
// micro-batches. A file, mapped by both: it survives neither, and a stale one means nothing.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "absl/status/statusor.h"

namespace tandem {

// Thread-safe.
class PressureWord {
 public:
  // The daemon's side: makes (or empties) the file. Removes it when destroyed.
  static absl::StatusOr<std::unique_ptr<PressureWord>> Create(const std::filesystem::path& file, uint32_t allowed);
  // The trainer's side.
  static absl::StatusOr<std::unique_ptr<PressureWord>> Open(const std::filesystem::path& file);
  ~PressureWord();
  PressureWord(const PressureWord&) = delete;
  PressureWord& operator=(const PressureWord&) = delete;

  // Wakes whoever waits if the value changed.
  void Set(uint32_t allowed);
  uint32_t Read() const { return word_->load(std::memory_order_acquire); }
  // Sleeps until the value differs from `seen`, or timeout_ms; gives the value.
  uint32_t WaitForChange(uint32_t seen, int timeout_ms) const;

 private:
  PressureWord(std::atomic<uint32_t>* word, std::filesystem::path owned) : word_(word), owned_(std::move(owned)) {}
  std::atomic<uint32_t>* const word_;  // in the mapping
  const std::filesystem::path owned_;  // removed at the end; empty on the trainer's side
};

}  // namespace tandem
