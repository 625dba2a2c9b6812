#pragma once
// An upload on its way to disk: a file without a name for anybody else, gone when this is.
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/fd.h"
#include "base/paced_writer.h"

namespace tandem::api::http {

// Thread-compatible.
class Spool {
 public:
  Spool() = default;
  ~Spool() { Remove(); }
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // Makes the file at the first call, in `folder`, readable by the owner only.
  // `pace` may be null.
  absl::Status Append(const std::string& folder, std::string_view piece, PacedWriter* pace);
  const std::string& path() const { return path_; }
  void Remove();

 private:
  std::string path_;
  UniqueFd fd_;
};

}  // namespace tandem::api::http
