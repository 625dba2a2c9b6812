// A tar of a SavedModel's folder. An odd first byte: the checksums of its headers are made right, which no mutation
// would hit.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/fd.h"
#include "base/paced_writer.h"
#include "engine/model_file.h"

namespace fs = std::filesystem;

namespace {

constexpr size_t kBlock = 512, kSum = 148, kMagic = 257;

void RepairHeaders(std::string* tar) {
  for (size_t at = 0; at + kBlock <= tar->size(); at += kBlock) {
    char* block = tar->data() + at;
    if (memcmp(block + kMagic, "ustar", 5) != 0) continue;
    unsigned sum = 0;
    memset(block + kSum, ' ', 8);
    for (size_t i = 0; i < kBlock; ++i) sum += static_cast<unsigned char>(block[i]);
    snprintf(block + kSum, 8, "%06o", sum % 0777777);
  }
}

// A folder in memory where there is one: it is filled and emptied with each input.
struct Place {
  Place() {
    std::string made = fs::exists("/dev/shm") ? "/dev/shm/fuzz-XXXXXX" : "/tmp/fuzz-XXXXXX";
    if (mkdtemp(made.data()) == nullptr) abort();
    root = made;
  }
  ~Place() { fs::remove_all(root); }
  fs::path root;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string tar(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 1) RepairHeaders(&tar);
  static const Place place;
  tandem::UniqueFd file(memfd_create("tar", MFD_CLOEXEC));
  if (write(file.get(), tar.data(), tar.size()) != static_cast<ssize_t>(tar.size())) abort();
  const fs::path archive = "/proc/self/fd/" + std::to_string(file.get()), out = place.root / "out";
  fs::create_directory(out);
  (void)tandem::engine::FormatOf(archive);
  static tandem::PacedWriter unpaced(0);
  auto found = tandem::engine::UnpackSavedModel(archive, out, &unpaced);
  if (found.ok() && !fs::is_regular_file(*found / "saved_model.pb")) abort();
  uintmax_t written = 0;
  for (const auto& entry : fs::recursive_directory_iterator(place.root)) {
    if (entry.path().native().compare(0, out.native().size(), out.native()) != 0) abort();  // it led out
    if (entry.is_symlink() || !(entry.is_directory() || entry.is_regular_file())) abort();
    if (entry.is_regular_file()) written += entry.file_size();
  }
  if (written > tar.size()) abort();
  fs::remove_all(out);
  return 0;
}
