#pragma once
// Small text helpers that every message needs.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// The candidate with the smallest edit distance to `word`, if it is near enough to be a slip (<= 1/3 of its length +
// 1).
std::optional<std::string> Nearest(std::string_view word, const std::vector<std::string>& candidates);

// "; did you mean 'x'?" or "".
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates);

// "1.2 GB", "340 MB", "12 kB", "7 bytes" (powers of 1000).
std::string HumanBytes(int64_t bytes);
// "90 ms", "3.2 s", "4 min 10 s", "2 h 5 min".
std::string HumanSeconds(double seconds);

// "512", "2GB", "1.5 GiB", "300 MB" -> bytes (k, M, G, T of 1000; Ki, Mi, Gi, Ti of 1024).
absl::StatusOr<int64_t> ParseBytes(std::string_view text);
// "30s", "5 min", "2h", "1500ms", "90" (seconds) -> seconds.
absl::StatusOr<double> ParseSeconds(std::string_view text);

// Names of models, data sets, aliases: 1..128 of letters, digits, '.', '_', '-' and any UTF-8 letter outside ASCII; no
// leading '.' or '-', no control character, no '/', '@', ':'. `what` begins the message ("model name").
absl::Status CheckName(std::string_view what, std::string_view name);
// A name that is no number: requests name versions by alias and by number in the same place, and there the number wins.
absl::Status CheckAlias(std::string_view alias);

// True if `text` is well-formed UTF-8.
bool IsUtf8(std::string_view text);
// `text` with '?' for each byte that is no part of a well-formed character: for foreign bytes that go into a message
// whose texts must be UTF-8.
std::string AsUtf8(std::string text);
// The length of `text` without a character at its end that is cut short, 0 to 3 bytes less than all.
size_t WholeCharacters(std::string_view text);

}  // namespace tandem
