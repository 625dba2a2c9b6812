#include "isolation/kernel_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/fd.h"
#include "base/files.h"
#include "base/strings.h"

namespace tandem::isolation {

int TryWriteKernelFile(const std::filesystem::path& path, std::string_view text) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return errno;
  return write(fd.get(), text.data(), text.size()) < 0 ? errno : 0;
}

absl::Status WriteKernelFile(const std::filesystem::path& path, std::string_view text) {
  int error = TryWriteKernelFile(path, text);
  if (error != 0) return ErrnoStatus(error, StrCat("write '", text, "' to '", path.string(), "'"));
  return absl::OkStatus();
}

std::string ReadKernelFile(const std::filesystem::path& path) { return ReadFile(path, 1 << 22).value_or(""); }

double ReadNumber(const std::filesystem::path& path) {
  double value = 0;
  return absl::SimpleAtod(ReadKernelFile(path), &value) ? value : 0;
}

std::optional<int64_t> NumberAfter(std::string_view text, std::string_view key) {
  for (absl::string_view line : absl::StrSplit(AbslView(text), '\n')) {
    int64_t value = 0;
    if (!absl::ConsumePrefix(&line, AbslView(key)) || line.empty() || (line[0] != ' ' && line[0] != '\t')) continue;
    if (absl::SimpleAtoi(absl::StripAsciiWhitespace(line), &value)) return value;
  }
  return std::nullopt;
}

}  // namespace tandem::isolation
