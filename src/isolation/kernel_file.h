#pragma once
// The kernel's small text files: one value each, or lines of keys and values.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace tandem::isolation {

// A write to a kernel file is one write call; the kernel's answer is its errno: 0 when it was taken.
int TryWriteKernelFile(const std::filesystem::path& path, std::string_view text);
absl::Status WriteKernelFile(const std::filesystem::path& path, std::string_view text);

// "" when it cannot be read.
std::string ReadKernelFile(const std::filesystem::path& path);
// 0 when it cannot be read or is no number ("max").
double ReadNumber(const std::filesystem::path& path);
// The number after `key` and white space on a line of its own ("usage_usec 123", "CapEff:\t00ff" is not decimal: none).
std::optional<int64_t> NumberAfter(std::string_view text, std::string_view key);

}  // namespace tandem::isolation
