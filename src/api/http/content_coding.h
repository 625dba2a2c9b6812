#pragma once
// gzip and deflate, the codings of HTTP bodies (RFC 9110, 8.4).
#include <sys/uio.h>
#include <zlib.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/http/body_buffer.h"

namespace tandem::api::http {

enum class Coding { kNone, kGzip, kDeflate };
inline constexpr std::string_view kKnownCodings = "gzip, deflate";

std::string_view CodingName(Coding coding);  // REQUIRES: not kNone. "gzip", "deflate"
// Of the header Content-Encoding; nullopt for one that is not known, or more than one.
std::optional<Coding> CodingOfBody(std::string_view content_encoding);
// What the header Accept-Encoding asks for: the known coding with the highest weight, gzip before deflate; kNone where
// it asks for none of them, or for "identity" more.
Coding CodingForAnswer(std::string_view accept_encoding);

// Decompresses piece by piece. Thread-compatible.
class Inflater {
 public:
  // `compressed` outlives it. gzip members one after the other are joined; deflate is taken with and without the
  // header of zlib, since clients send both.
  Inflater(Coding coding, std::string_view compressed);
  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Appends at most `most` bytes. True once all is out. InvalidArgument names the byte where the data breaks;
  // Unavailable without memory.
  absl::StatusOr<bool> Run(size_t most, BodyBuffer* out);

 private:
  z_stream stream_ = {};
  const Coding coding_;
  const std::string_view compressed_;
  bool started_ = false;
};

// Compresses the pieces one after the other into `out`. Unavailable without memory.
absl::Status Deflate(Coding coding, std::span<const iovec> pieces, std::string* out);

}  // namespace tandem::api::http
