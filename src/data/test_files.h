#pragma once
// For this module's tests: small files in a temporary folder.
#include <gtest/gtest.h>
#include <png.h>
#include <turbojpeg.h>
#include <zlib.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/files.h"
#include "data/dataset.h"

namespace tandem::data {

// Removed, with all it holds, at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tandem-data-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path(const std::string& name = "") const { return name.empty() ? path_ : path_ + "/" + name; }
  void Write(const std::string& name, std::string_view content) const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream(path(name), std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
  }
  std::string Read(const std::string& name) const { return *ReadFile(path(name)); }
  // A record as a client sends it.
  wire::Dataset Info(const std::string& format = "", const std::string& name = "") const {
    wire::Dataset info;
    info.set_name("set");
    info.set_path(path(name));
    info.set_format(format);
    return info;
  }

 private:
  std::string path_;
};

inline std::string Gzip(std::string_view data) {
  z_stream stream = {};
  deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(data.size() + 1000, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// The header of an IDX file of bytes.
inline std::string IdxHeader(const std::vector<uint32_t>& shape) {
  std::string out = {0, 0, 8, static_cast<char>(shape.size())};
  for (uint32_t dim : shape) {
    for (int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>(dim >> shift));
  }
  return out;
}

// H,W,C bytes as a PNG; channels 1 or 3.
inline std::string MakePng(int channels, int height, int width, const std::vector<uint8_t>& pixels) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string out(size, '\0');
  EXPECT_TRUE(png_image_write_to_memory(&image, out.data(), &size, 0, pixels.data(), 0, nullptr)) << image.message;
  out.resize(size);
  return out;
}

inline std::string MakeJpeg(int channels, int height, int width, const std::vector<uint8_t>& pixels) {
  tjhandle handle = tjInitCompress();
  unsigned char* bytes = nullptr;
  unsigned long size = 0;  // NOLINT(google-runtime-int): the library's type
  EXPECT_EQ(tjCompress2(handle, pixels.data(), width, 0, height, channels == 1 ? TJPF_GRAY : TJPF_RGB, &bytes, &size,
                        channels == 1 ? TJSAMP_GRAY : TJSAMP_444, 95, 0),
            0);
  std::string out(reinterpret_cast<char*>(bytes), size);
  tjFree(bytes);
  tjDestroy(handle);
  return out;
}

inline std::vector<uint8_t> Constant(size_t count, uint8_t value) { return std::vector<uint8_t>(count, value); }

template <typename T>
Tensor MakeTensor(DType dtype, Shape shape, const std::vector<T>& values) {
  Tensor tensor{"", dtype, std::move(shape), AlignedBuffer(values.size() * sizeof(T))};
  memcpy(tensor.buffer.data(), values.data(), values.size() * sizeof(T));
  return tensor;
}

inline std::string MessageOfError(const absl::Status& status) { return std::string(status.message()); }

}  // namespace tandem::data
