#pragma once
// The JSON of one inference request after the other, with bounds on its size and depth.
#include <string_view>

#include "absl/status/status.h"
#include "simdjson.h"

namespace tandem::api::http {

// Keeps memory from request to request, but no more than is worth it. Thread-compatible.
class JsonDocument {
 public:
  // JSON nested deeper than `max_depth` is refused.
  explicit JsonDocument(int max_depth) : max_depth_(max_depth) {}

  // `json`: simdjson::SIMDJSON_PADDING readable bytes behind its end. What it gives, texts too, lives until the next
  // call. InvalidArgument for what is no JSON or too large; Unavailable without memory.
  absl::Status Parse(std::string_view json, simdjson::dom::object* request);

 private:
  const int max_depth_;
  simdjson::dom::parser parser_;
};

}  // namespace tandem::api::http
