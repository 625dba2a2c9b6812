#include <turbojpeg.h>

#include <memory>

#include "base/status.h"
#include "data/codec.h"

namespace tandem::data {
namespace {

struct Destroy {
  void operator()(void* handle) const { tjDestroy(handle); }
};

// One decompressor a thread: making one costs more than decoding a small picture. A file that failed may leave it in a
// state in which the next one fails too (TurboJPEG 2.1), so failure drops it.
thread_local std::unique_ptr<void, Destroy> thread_handle;

absl::StatusOr<tjhandle> ThreadHandle() {
  if (thread_handle == nullptr) thread_handle.reset(tjInitDecompress());
  if (thread_handle == nullptr) return ResourceExhausted("JPEG: the decoder cannot start: ", tjGetErrorStr2(nullptr));
  return thread_handle.get();
}

absl::Status Failure(std::string_view what, std::string_view bytes) {
  absl::Status status =
      InvalidArgument("JPEG: ", what, " (of ", bytes.size(), " bytes): ", tjGetErrorStr2(thread_handle.get()));
  thread_handle.reset();
  return status;
}

struct Header {
  int width = 0, height = 0, subsampling = 0, colours = 0;
};

absl::StatusOr<Header> ReadHeader(tjhandle handle, std::string_view bytes) {
  Header header;
  if (tjDecompressHeader3(handle, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), &header.width,
                          &header.height, &header.subsampling, &header.colours) != 0) {
    return Failure("the header is broken", bytes);
  }
  if (header.colours == TJCS_CMYK || header.colours == TJCS_YCCK) {
    return InvalidArgument("JPEG: CMYK colours are not supported; convert the picture to RGB");
  }
  return header;
}

// The smallest of 1, 1/2, 1/4, 1/8 that still leaves twice the wanted size: the decoder scales for next to nothing.
tjscalingfactor Scale(const Header& header, const ImageSize& wanted) {
  tjscalingfactor best{1, 1};
  if (wanted.height == 0 || wanted.width == 0) return best;
  for (int divisor : {2, 4, 8}) {
    tjscalingfactor factor{1, divisor};
    if (TJSCALED(header.height, factor) < 2 * wanted.height || TJSCALED(header.width, factor) < 2 * wanted.width) break;
    best = factor;
  }
  return best;
}

// Stray bytes between segments are common and harmless; all other warnings mean that picture data is missing.
bool IsHarmless(tjhandle handle) {
  return tjGetErrorCode(handle) == TJERR_WARNING &&
         std::string_view(tjGetErrorStr2(handle)).find("extraneous bytes") != std::string_view::npos;
}

}  // namespace

bool IsJpeg(std::string_view bytes) { return bytes.substr(0, 3) == "\xff\xd8\xff"; }

absl::StatusOr<ImageSize> ReadJpegSize(std::string_view bytes) {
  TANDEM_ASSIGN_OR_RETURN(tjhandle handle, ThreadHandle());
  TANDEM_ASSIGN_OR_RETURN(Header header, ReadHeader(handle, bytes));
  return ImageSize{header.colours == TJCS_GRAY ? 1 : 3, header.height, header.width};
}

absl::StatusOr<Pixels> DecodeJpeg(std::string_view bytes, const ImageSize& wanted) {
  TANDEM_ASSIGN_OR_RETURN(tjhandle handle, ThreadHandle());
  TANDEM_ASSIGN_OR_RETURN(Header header, ReadHeader(handle, bytes));
  const bool grey = header.colours == TJCS_GRAY || wanted.channels == 1;
  const tjscalingfactor scale = Scale(header, wanted);
  const int width = TJSCALED(header.width, scale), height = TJSCALED(header.height, scale);
  Pixels image;
  image.size = {grey ? 1 : 3, height, width};
  image.bytes.resize(image.size.channels * height * width);
  int code = tjDecompress2(handle, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                           image.bytes.data(), width, 0, height, grey ? TJPF_GRAY : TJPF_RGB, TJFLAG_LIMITSCANS);
  if (code != 0 && !IsHarmless(handle)) {
    return Failure("the picture breaks off or is damaged", bytes);
  }
  return image;
}

}  // namespace tandem::data
