#pragma once
// zlib, one call: gzip files and the entries of zip files.
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tandem::data {

enum class Compression { kGzip, kDeflate };

// Decompresses until the end of the stream or until `max_bytes` came out, whichever is first; memory grows with what
// really came out. gzip: members one after the other are joined. InvalidArgument names the byte of `data` where the
// stream breaks.
absl::StatusOr<std::string> Inflate(std::string_view data, Compression compression, size_t max_bytes);

// No stream grows by more than this (the limit of deflate), so that a promised size can be doubted before it is used.
inline constexpr size_t kMaxRatio = 1032;

bool IsGzip(std::string_view data);

}  // namespace tandem::data
