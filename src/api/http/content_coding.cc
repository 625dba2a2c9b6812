#include "api/http/content_coding.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <charconv>
#include <limits>

#include "base/status.h"

namespace tandem::api::http {
namespace {

constexpr int kGzipWindow = MAX_WBITS + 16;
// Answers are compressed while somebody waits: the fastest level.
constexpr int kLevel = Z_BEST_SPEED;
constexpr int kMemoryLevel = 8;

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool IsWord(std::string_view text, std::string_view word) {
  return boost::beast::iequals({text.data(), text.size()}, {word.data(), word.size()});
}

// "; q=0.5" -> 0.5; what cannot be read counts as 0.
double WeightOf(std::string_view parameters) {
  const size_t at = parameters.find("q=");
  if (at == std::string_view::npos) return 1;
  double weight = 0;
  std::from_chars(parameters.data() + at + 2, parameters.data() + parameters.size(), weight);
  return weight;
}

int InflateWindow(Coding coding, std::string_view compressed) {
  if (coding == Coding::kGzip) return kGzipWindow;
  // RFC 1950: the method is 8, and both bytes together are a multiple of 31.
  const bool has_header = compressed.size() >= 2 && (compressed[0] & 15) == Z_DEFLATED &&
                          (static_cast<uint8_t>(compressed[0]) * 256 + static_cast<uint8_t>(compressed[1])) % 31 == 0;
  return has_header ? MAX_WBITS : -MAX_WBITS;
}

Bytef* BytesOf(const void* data) { return static_cast<Bytef*>(const_cast<void*>(data)); }

uInt CutToInt(size_t size) { return static_cast<uInt>(std::min<size_t>(size, std::numeric_limits<uInt>::max())); }

}  // namespace

std::string_view CodingName(Coding coding) { return coding == Coding::kGzip ? "gzip" : "deflate"; }

std::optional<Coding> CodingOfBody(std::string_view content_encoding) {
  std::string_view name = Trim(content_encoding);
  if (name.empty() || IsWord(name, "identity")) return Coding::kNone;
  if (IsWord(name, "gzip") || IsWord(name, "x-gzip")) return Coding::kGzip;
  if (IsWord(name, "deflate")) return Coding::kDeflate;
  return std::nullopt;
}

Coding CodingForAnswer(std::string_view accept_encoding) {
  double gzip = 0, deflate = 0, identity = 0;
  while (!accept_encoding.empty()) {
    std::string_view entry = accept_encoding.substr(0, accept_encoding.find(','));
    accept_encoding.remove_prefix(std::min(accept_encoding.size(), entry.size() + 1));
    const size_t semicolon = std::min(entry.find(';'), entry.size());
    const double weight = WeightOf(entry.substr(semicolon));
    std::string_view name = Trim(entry.substr(0, semicolon));
    if (IsWord(name, "gzip") || IsWord(name, "x-gzip")) gzip = weight;
    if (IsWord(name, "deflate")) deflate = weight;
    if (IsWord(name, "identity")) identity = weight;
  }
  if (identity > std::max(gzip, deflate) || std::max(gzip, deflate) <= 0) return Coding::kNone;
  return gzip >= deflate ? Coding::kGzip : Coding::kDeflate;
}

Inflater::Inflater(Coding coding, std::string_view compressed) : coding_(coding), compressed_(compressed) {
  stream_.next_in = BytesOf(compressed.data());
}

Inflater::~Inflater() {
  if (started_) inflateEnd(&stream_);
}

absl::StatusOr<bool> Inflater::Run(size_t most, BodyBuffer* out) {
  if (!started_ && inflateInit2(&stream_, InflateWindow(coding_, compressed_)) != Z_OK) {
    return Unavailable("no memory to decompress the body; try again");
  }
  started_ = true;
  const Bytef* const begin = BytesOf(compressed_.data());
  const Bytef* const end = begin + compressed_.size();
  while (most > 0) {
    out->Grow(std::min<size_t>(most, 4096));
    const uInt room = CutToInt(std::min(out->room(), most));
    stream_.next_out = BytesOf(out->free());
    stream_.avail_out = room;
    stream_.avail_in = CutToInt(end - stream_.next_in);
    const int code = inflate(&stream_, Z_NO_FLUSH);
    out->Commit(room - stream_.avail_out);
    most -= room - stream_.avail_out;
    const size_t at = stream_.next_in - begin;
    if (code == Z_STREAM_END) {
      if (stream_.next_in == end) return true;
      if (coding_ == Coding::kGzip && inflateReset(&stream_) == Z_OK) continue;
      return InvalidArgument("the ", CodingName(coding_), " data of the body ends at byte ", at, " of ",
                             compressed_.size());
    }
    if (code == Z_MEM_ERROR) return Unavailable("no memory to decompress the body; try again");
    if (code == Z_BUF_ERROR && stream_.next_in == end) {
      return InvalidArgument("the ", CodingName(coding_), " data of the body is cut off");
    }
    if (code != Z_OK) {
      return InvalidArgument("the body is not ", CodingName(coding_), " data: it breaks at byte ", at,
                             stream_.msg == nullptr ? "" : StrCat(": ", stream_.msg));
    }
  }
  return false;
}

absl::Status Deflate(Coding coding, std::span<const iovec> pieces, std::string* out) {
  z_stream stream = {};
  if (deflateInit2(&stream, kLevel, Z_DEFLATED, coding == Coding::kGzip ? kGzipWindow : MAX_WBITS, kMemoryLevel,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    return Unavailable("no memory to compress an answer");
  }
  size_t total = 0;
  for (const iovec& piece : pieces) total += piece.iov_len;
  // deflateBound is what one stream takes at the most, so that nothing ever has to grow.
  absl::Status status = CatchToStatus("compress an answer", [&] {
    out->resize(deflateBound(&stream, total));
    return absl::OkStatus();
  });
  stream.next_out = BytesOf(out->data());
  size_t left = out->size();
  int code = Z_OK;
  for (size_t i = 0; status.ok() && i <= pieces.size(); ++i) {
    size_t size = i < pieces.size() ? pieces[i].iov_len : 0;
    stream.next_in = i < pieces.size() ? BytesOf(pieces[i].iov_base) : nullptr;
    do {
      stream.avail_in = CutToInt(size);
      size -= stream.avail_in;
      const uInt room = CutToInt(left);
      stream.avail_out = room;
      code = deflate(&stream, i < pieces.size() ? Z_NO_FLUSH : Z_FINISH);
      left -= room - stream.avail_out;
      size += stream.avail_in;
    } while (code == Z_OK && (size > 0 || i == pieces.size()));
  }
  deflateEnd(&stream);
  if (status.ok() && code != Z_STREAM_END) status = Internal("an answer could not be compressed: zlib says ", code);
  out->resize(out->size() - left);
  return status;
}

}  // namespace tandem::api::http
