#include "api/http/json_document.h"

#include <algorithm>
#include <cstdint>

#include "api/http/json_tensor.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

constexpr size_t kFirstCapacity = 16 << 10;
// What is kept between requests; more is given back.
constexpr size_t kKeptBytes = 1 << 20;
// The parser needs about 15 times the text. Bigger tensors belong into binary data.
constexpr size_t kMostJsonBytes = 64 << 20;

}  // namespace

absl::Status JsonDocument::Parse(std::string_view json, simdjson::dom::object* request) {
  if (json.size() > kMostJsonBytes) {
    return InvalidArgument("the JSON of the request has ", json.size(), " bytes, at most ", kMostJsonBytes,
                           " are read; send tensors as binary data");
  }
  if (parser_.capacity() > kKeptBytes && json.size() <= kKeptBytes) parser_ = simdjson::dom::parser();
  if (parser_.capacity() < json.size()) {
    simdjson::error_code error = parser_.allocate(std::max(json.size(), kFirstCapacity), max_depth_);
    if (error) return Unavailable("no memory to read ", json.size(), " bytes of JSON");
  }
  simdjson::dom::element document;
  simdjson::error_code error =
      parser_.parse(reinterpret_cast<const uint8_t*>(json.data()), json.size(), false).get(document);
  if (error) return InvalidArgument("the request is not JSON: ", simdjson::error_message(error));
  return Get(document, "the request", "an object", request);
}

}  // namespace tandem::api::http
