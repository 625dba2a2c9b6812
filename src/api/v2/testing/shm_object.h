#pragma once
// A POSIX shared memory object as a client has it, for tests.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/strings.h"

namespace tandem::api::v2::testing {

// Made with a name of its own, and removed with this.
class ShmObject {
 public:
  explicit ShmObject(size_t size) : size_(size) {
    static std::atomic<int> number = 0;
    key_ = StrCat("/tandem-test-", getpid(), "-", number++);
    fd_ = UniqueFd(shm_open(key_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    EXPECT_TRUE(fd_.valid());
    Resize(size);
    bytes_ = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
    EXPECT_NE(static_cast<void*>(bytes_), MAP_FAILED);
  }
  ~ShmObject() {
    munmap(bytes_, size_);
    shm_unlink(key_.c_str());
  }
  const std::string& key() const { return key_; }
  char* bytes() { return bytes_; }
  std::string_view view(size_t offset, size_t size) const { return {bytes_ + offset, size}; }
  void Resize(size_t size) { EXPECT_EQ(ftruncate(fd_.get(), static_cast<off_t>(size)), 0); }

 private:
  const size_t size_;
  std::string key_;
  UniqueFd fd_;
  char* bytes_ = nullptr;
};

}  // namespace tandem::api::v2::testing
