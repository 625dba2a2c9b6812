#include <png.h>

#include <csetjmp>
#include <cstring>

#include "base/status.h"
#include "data/codec.h"

namespace tandem::data {
namespace {

constexpr unsigned char kSignature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr size_t kHeaderEnd = 33;  // signature and IHDR with its checksum

// What libpng's callbacks share with us. Plain data: libpng leaves by longjmp.
struct PngSource {
  const char* data;
  size_t size;
  size_t position;
  char error[128];
};

void ReadCallback(png_structp png, png_bytep out, png_size_t size) {
  auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (size > source->size - source->position) {
    source->position = source->size;
    png_error(png, "the file ends too early");
  }
  memcpy(out, source->data + source->position, size);
  source->position += size;
}

[[noreturn]] void ErrorCallback(png_structp png, png_const_charp message) {
  auto* source = static_cast<PngSource*>(png_get_error_ptr(png));
  strncpy(source->error, message, sizeof source->error - 1);
  longjmp(*png_set_longjmp_fn(png, longjmp, sizeof(jmp_buf)), 1);
}

void WarningCallback(png_structp, png_const_charp) {}

uint32_t BigEndian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// Asks for 8-bit grey or colour without alpha, whatever the file holds.
void SetTransforms(png_structp png) {
  png_set_palette_to_rgb(png);
  png_set_expand_gray_1_2_4_to_8(png);
  png_set_scale_16(png);
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
}

// Decodes into rows that the caller sized from the header. No object with a destructor may live here: errors jump.
bool ReadRows(png_structp png, png_infop info, png_bytepp rows, size_t row_bytes) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_info(png, info);
  SetTransforms(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != row_bytes) png_error(png, "the header contradicts itself");
  png_read_image(png, rows);
  png_read_end(png, nullptr);
  return true;
}

}  // namespace

bool IsPng(std::string_view bytes) {
  return bytes.size() >= sizeof kSignature && memcmp(bytes.data(), kSignature, sizeof kSignature) == 0;
}

absl::StatusOr<ImageSize> ReadPngSize(std::string_view bytes) {
  if (bytes.size() < kHeaderEnd) return InvalidArgument("PNG: ends at byte ", bytes.size(), ", within the header");
  if (bytes.substr(12, 4) != "IHDR") return InvalidArgument("PNG: no header (IHDR) at byte 12");
  constexpr unsigned char kColourBit = 2;
  ImageSize size;
  size.width = BigEndian(bytes, 16);
  size.height = BigEndian(bytes, 20);
  size.channels = (static_cast<unsigned char>(bytes[25]) & kColourBit) != 0 ? 3 : 1;
  return size;
}

absl::StatusOr<Pixels> DecodePng(std::string_view bytes) {
  TANDEM_ASSIGN_OR_RETURN(ImageSize size, ReadPngSize(bytes));
  PngSource source{bytes.data(), bytes.size(), 0, {}};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, ErrorCallback, WarningCallback);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  if (info == nullptr) {
    png_destroy_read_struct(&png, nullptr, nullptr);
    return ResourceExhausted("PNG: out of memory");
  }
  png_set_read_fn(png, &source, ReadCallback);
  Pixels image{size, std::vector<uint8_t>(size.height * size.width * size.channels)};
  const size_t row_bytes = size.width * size.channels;
  std::vector<png_bytep> rows(size.height);
  for (int64_t y = 0; y < size.height; ++y) rows[y] = image.bytes.data() + y * row_bytes;
  bool ok = ReadRows(png, info, rows.data(), row_bytes);
  png_destroy_read_struct(&png, &info, nullptr);
  if (!ok) return InvalidArgument("PNG: breaks at byte ", source.position, ": ", source.error);
  return image;
}

}  // namespace tandem::data
