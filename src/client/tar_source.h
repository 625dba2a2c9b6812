#pragma once
// A folder or a file as a tar stream (POSIX.1-2001: ustar, with pax records for long names and sizes), made while it is
// sent.
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/transport.h"

namespace tandem::client {

// Names in the archive are relative to `path`; a single file is stored under its own name. Entries are sorted.
// Only folders and regular files (links are followed, loops are not: a folder is entered once). A file whose size
// changes before it was sent ends the stream with an error that names it.
absl::StatusOr<std::unique_ptr<BodySource>> OpenTarSource(const std::string& path);

}  // namespace tandem::client
