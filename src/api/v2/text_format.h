#pragma once
// Protobuf's text format, read as a document in which every value knows where it was written.
#include <string_view>

#include "absl/status/statusor.h"
#include "spec/document.h"

namespace tandem::api::v2 {

// No schema is needed: a message is a map, a field that stands there more than once, or has "[...]", is a list, and
// scalars and enums are text (numbers in decimal). Fields that nobody knows are read like all others. A map field stays
// a list of messages with `key` and `value`. Pure. InvalidArgument with the position ("<source>:3:9: ...") for what is
// no text format, and beyond the limits of spec::ParseDocument.
absl::StatusOr<spec::Node> ParseTextFormat(std::string_view text, std::string_view source);

}  // namespace tandem::api::v2
