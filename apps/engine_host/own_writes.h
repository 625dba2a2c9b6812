#pragma once
// What this process itself writes, at the rate that the server which started it gives (TANDEM_DISK_WRITE, bytes per
// second; not set or 0 = as fast as the disk), until it says another one. What an engine writes is held by the kernel
// alone.
#include <filesystem>

#include "absl/status/status.h"
#include "base/paced_writer.h"

tandem::PacedWriter* OwnWrites();

// Puts every file below `folder` on the disk, before the server does: here the kernel's rate for this process's group
// holds, there it would not.
absl::Status SyncFilesBelow(const std::filesystem::path& folder);
