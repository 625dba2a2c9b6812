#pragma once
// PNG and JPEG to 8-bit pixels. What data sets cache; DecodeImage of dataset.h gives the same as floats.
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::data {

struct ImageSize {
  int64_t channels = 0;  // as stored: 1 grey, 3 colour (a fourth, alpha, is dropped)
  int64_t height = 0, width = 0;
};

struct Pixels {
  ImageSize size;
  std::vector<uint8_t> bytes;
};

// A hostile header must not make the process allocate what the machine does not have.
inline constexpr int64_t kMaxPixels = 100'000'000;

// Reads the header alone.
absl::StatusOr<ImageSize> ReadImageSize(std::string_view bytes);
// Decodes to C,H,W. `wanted` as for DecodeImage: 0 = as the file.
absl::StatusOr<Pixels> DecodePixels(std::string_view bytes, const ImageSize& wanted);

// One format each; the rows are H,W,C. For JPEG, `wanted` is a hint: a file much larger than that may come out
// smaller than it is, but never smaller than twice `wanted`; grey may be delivered when grey is wanted.
bool IsPng(std::string_view bytes);
absl::StatusOr<ImageSize> ReadPngSize(std::string_view bytes);
absl::StatusOr<Pixels> DecodePng(std::string_view bytes);
bool IsJpeg(std::string_view bytes);
absl::StatusOr<ImageSize> ReadJpegSize(std::string_view bytes);
absl::StatusOr<Pixels> DecodeJpeg(std::string_view bytes, const ImageSize& wanted);

// Bilinear (triangle filter); when it shrinks, the filter grows with the factor, so that no pixel is skipped. H,W,C.
Pixels Resize(const Pixels& image, int64_t height, int64_t width);

}  // namespace tandem::data
