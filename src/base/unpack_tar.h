#pragma once
// Archives on their way in.
#include <cstdint>
#include <filesystem>

#include "absl/status/status.h"
#include "base/paced_writer.h"

namespace tandem {

// Unpacks a plain tar (ustar, with pax and GNU's long names) of files and folders into `folder`, which must exist and
// be empty, at the rate of `pace`. The archive may be hostile. InvalidArgument, with the entry's name, for names that
// lead out, links and other things that are neither file nor folder, two entries of a name, more than `most_entries` of
// them, damage. What is written has no more bytes than the archive, plus what folders take; files are their owner's
// alone (0600). On an error some of it is left in `folder`. Blocks, as long as the rate asks for. Thread-safe for
// different folders.
absl::Status UnpackTar(const std::filesystem::path& archive, const std::filesystem::path& folder, int64_t most_entries,
                       PacedWriter* pace);

}  // namespace tandem
