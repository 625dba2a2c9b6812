#include "base/status.h"
#include "data/arrays.h"
#include "data/codec.h"
#include "data/dataset.h"

namespace tandem::data {
namespace {

absl::Status CheckSize(const ImageSize& size) {
  if (size.height <= 0 || size.width <= 0 || size.height > kMaxPixels / size.width) {
    return InvalidArgument("the picture's header says ", size.width, " x ", size.height, " pixels; from 1 to ",
                           kMaxPixels, " are allowed");
  }
  return absl::OkStatus();
}

// The weights of ITU-R BT.601, in 1/65536.
uint8_t Luma(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 32768u) >> 16);
}

// H,W,C with 1 or 3 channels to C,H,W with `channels`.
Pixels ToPlanes(const Pixels& image, int64_t channels) {
  const int64_t plane = image.size.height * image.size.width, from = image.size.channels;
  Pixels out{{channels, image.size.height, image.size.width}, std::vector<uint8_t>(channels * plane)};
  for (int64_t c = 0; c < channels; ++c) {
    uint8_t* target = out.bytes.data() + c * plane;
    const uint8_t* pixel = image.bytes.data() + (from == channels ? c : 0);
    for (int64_t i = 0; i < plane; ++i, pixel += from) target[i] = from > channels ? Luma(pixel) : *pixel;
  }
  return out;
}

}  // namespace

absl::StatusOr<ImageSize> ReadImageSize(std::string_view bytes) {
  if (!IsPng(bytes) && !IsJpeg(bytes)) {
    return InvalidArgument("neither a PNG nor a JPEG: its first bytes are not those of either");
  }
  TANDEM_ASSIGN_OR_RETURN(ImageSize size, IsPng(bytes) ? ReadPngSize(bytes) : ReadJpegSize(bytes));
  TANDEM_RETURN_IF_ERROR(CheckSize(size));
  return size;
}

absl::StatusOr<Pixels> DecodePixels(std::string_view bytes, const ImageSize& wanted) {
  TANDEM_ASSIGN_OR_RETURN(ImageSize stored, ReadImageSize(bytes));
  const int64_t height = wanted.height > 0 ? wanted.height : stored.height;
  const int64_t width = wanted.width > 0 ? wanted.width : stored.width;
  TANDEM_RETURN_IF_ERROR(CheckSize({1, height, width}));
  TANDEM_ASSIGN_OR_RETURN(Pixels image, IsPng(bytes) ? DecodePng(bytes) : DecodeJpeg(bytes, wanted));
  if (image.size.height != height || image.size.width != width) image = Resize(image, height, width);
  return ToPlanes(image, wanted.channels > 0 ? wanted.channels : stored.channels);
}

absl::StatusOr<Image> DecodeImage(std::string_view bytes, int64_t channels, int64_t height, int64_t width) {
  if (channels != 0 && channels != 1 && channels != 3) {
    return InvalidArgument("a picture has 1 (grey) or 3 (colour) channels, ", channels, " are wanted");
  }
  if (height < 0 || width < 0) return InvalidArgument("picture size ", width, " x ", height, " is negative");
  return CatchToStatus("decode a picture", [&]() -> absl::StatusOr<Image> {
    TANDEM_ASSIGN_OR_RETURN(Pixels pixels, DecodePixels(bytes, {channels, height, width}));
    Image image{{pixels.size.channels, pixels.size.height, pixels.size.width}, {}};
    image.pixels.resize(pixels.bytes.size());
    BytesToFloats(pixels.bytes.data(), image.pixels);
    return image;
  });
}

}  // namespace tandem::data
