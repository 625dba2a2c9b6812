#pragma once
// For tests: a folder that is removed, and a small learnable data set in IDX files.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "api.pb.h"
#include "base/files.h"
#include "data/dataset.h"

namespace tandem::training {

class TestFolder {
 public:
  TestFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tandem-training-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string BigEndian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

// Images of side x side grey pixels: a bright block whose place tells the class (0..2), with some noise.
inline void WriteIdxSplit(const std::filesystem::path& folder, const std::string& prefix, int samples, int side) {
  std::string images = BigEndian(0x803) + BigEndian(samples) + BigEndian(side) + BigEndian(side);
  std::string labels = BigEndian(0x801) + BigEndian(samples);
  for (int s = 0; s < samples; ++s) {
    int label = s % 3;
    labels += static_cast<char>(label);
    for (int p = 0; p < side * side; ++p) {
      bool bright = p % side / ((side + 2) / 3) == label;
      images += static_cast<char>((bright ? 150 : 20) + (s * 7919 + p * 104729 + s * p) % 97);
    }
  }
  ASSERT_TRUE(WriteFileAtomically(folder / (prefix + "-images-idx3-ubyte"), images).ok());
  ASSERT_TRUE(WriteFileAtomically(folder / (prefix + "-labels-idx1-ubyte"), labels).ok());
}

inline wire::Dataset MakeDataset(const std::filesystem::path& folder, int samples, int side) {
  WriteIdxSplit(folder, "train", samples, side);
  WriteIdxSplit(folder, "t10k", samples / 4, side);
  wire::Dataset info;
  info.set_name("blocks");
  info.set_path(folder.string());
  info.set_format("idx");
  auto inspected = data::Inspect(info);
  EXPECT_TRUE(inspected.ok()) << inspected.status();
  return inspected.ok() ? *inspected : info;
}

}  // namespace tandem::training
