#include "data/inflate.h"

#include <zlib.h>

#include <algorithm>

#include "base/status.h"

namespace tandem::data {
namespace {

// Owns the state of one decompression.
class Inflater {
 public:
  Inflater(std::string_view data, Compression compression) : data_(data) {
    // 16 asks for a gzip header, a negative number for none.
    ok_ = inflateInit2(&stream_, compression == Compression::kGzip ? MAX_WBITS + 16 : -MAX_WBITS) == Z_OK;
  }
  ~Inflater() {
    if (ok_) inflateEnd(&stream_);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  bool ok() const { return ok_; }
  size_t consumed() const { return consumed_; }
  const char* reason() const { return stream_.msg != nullptr ? stream_.msg : "the data ends too early"; }
  int Reset() { return inflateReset(&stream_); }

  // Decompresses into `out`; `written` tells how far. Returns zlib's code.
  int Step(char* out, size_t size, size_t* written) {
    // zlib counts in 32 bits.
    constexpr size_t kMost = 1u << 30;
    size_t in_size = std::min(kMost, data_.size() - consumed_);
    size_t out_size = std::min(kMost, size);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data_.data() + consumed_));
    stream_.avail_in = static_cast<uInt>(in_size);
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(out_size);
    int code = inflate(&stream_, Z_NO_FLUSH);
    consumed_ += in_size - stream_.avail_in;
    *written = out_size - stream_.avail_out;
    return code;
  }

 private:
  std::string_view data_;
  z_stream stream_ = {};
  size_t consumed_ = 0;
  bool ok_;
};

}  // namespace

bool IsGzip(std::string_view data) { return data.size() >= 2 && data[0] == '\x1f' && data[1] == '\x8b'; }

absl::StatusOr<std::string> Inflate(std::string_view data, Compression compression, size_t max_bytes) {
  Inflater inflater(data, compression);
  if (!inflater.ok()) return ResourceExhausted("zlib cannot start: out of memory");
  std::string out;
  size_t size = 0;
  while (size < max_bytes) {
    size_t room = std::max<size_t>(64 << 10, std::min(out.size(), data.size() * kMaxRatio));
    out.resize(std::min(max_bytes, size + room));
    size_t written = 0;
    int code = inflater.Step(out.data() + size, out.size() - size, &written);
    size += written;
    if (code == Z_STREAM_END) {
      bool more = compression == Compression::kGzip && IsGzip(data.substr(inflater.consumed()));
      if (!more) break;
      if (inflater.Reset() != Z_OK) return Internal("zlib cannot be reset");
    } else if (code != Z_OK) {
      return InvalidArgument("the compressed data breaks at byte ", inflater.consumed(), ": ", inflater.reason());
    }
  }
  out.resize(size);
  return out;
}

}  // namespace tandem::data
