#pragma once
// Where things lie in the data folder.
#include <filesystem>
#include <string>

#include "base/strings.h"

namespace tandem::daemon {

struct Paths {
  std::filesystem::path root;
  std::filesystem::path database() const { return root / "tandem.db"; }
  std::filesystem::path artifacts() const { return root / "artifacts"; }
  std::filesystem::path checkpoints() const { return root / "checkpoints"; }
  std::filesystem::path datasets() const { return root / "datasets"; }
  std::filesystem::path run() const { return root / "run"; }
  std::filesystem::path lock() const { return run() / "tandemd.lock"; }
  std::filesystem::path JobFolder(int32_t job) const { return checkpoints() / StrCat("job-", job); }
  std::filesystem::path PressureFile(int32_t job) const { return run() / StrCat("pressure-", job); }
  std::filesystem::path JobLog(int32_t job) const { return JobFolder(job) / "trainer.log"; }
};

}  // namespace tandem::daemon
