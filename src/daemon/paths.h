#pragma once
// Where things lie: records in the data folder, each side's files below a root of its own, by default the data folder.
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "spec/settings.h"

namespace tandem::daemon {

struct Paths {
  // All in one folder.
  explicit Paths(const std::filesystem::path& folder) : root(folder), serving(folder), training(folder) {}
  explicit Paths(const spec::Settings& settings)
      : root(settings.data),
        serving(settings.serving.folder.empty() ? settings.data : settings.serving.folder),
        training(settings.training.folder.empty() ? settings.data : settings.training.folder) {}

  std::filesystem::path root, serving, training;
  std::filesystem::path database() const { return root / "tandem.db"; }
  std::filesystem::path artifacts() const { return serving / "artifacts"; }
  std::filesystem::path checkpoints() const { return training / "checkpoints"; }
  std::filesystem::path datasets() const { return training / "datasets"; }
  std::filesystem::path run() const { return RunBelow(root); }
  // For models on their way in: on the disk that they will stay on.
  std::filesystem::path serving_run() const { return RunBelow(serving); }
  std::filesystem::path JobFolder(int32_t job) const { return checkpoints() / StrCat("job-", job); }
  std::filesystem::path PressureFile(int32_t job) const { return run() / StrCat("pressure-", job); }
  std::filesystem::path JobLog(int32_t job) const { return JobFolder(job) / "trainer.log"; }

  // The data folder, and each side's root that is another one.
  std::vector<std::pair<std::string_view, std::filesystem::path>> Roots() const {
    std::vector<std::pair<std::string_view, std::filesystem::path>> roots = {{"the data folder", root}};
    if (serving != root) roots.emplace_back("serving.folder", serving);
    if (training != root && training != serving) roots.emplace_back("training.folder", training);
    return roots;
  }

  // Each root has one: its lock, and what is emptied at the start.
  static std::filesystem::path RunBelow(const std::filesystem::path& root) { return root / "run"; }
  static std::filesystem::path LockBelow(const std::filesystem::path& root) { return RunBelow(root) / "tandemd.lock"; }
};

}  // namespace tandem::daemon
