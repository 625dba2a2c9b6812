#pragma once
// An ONNX file on the level of protobuf's wire format: where the data of each initialiser lie, so that a splice can
// overwrite them without touching anything else, and how many messages the file makes, before memory is taken for them.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::graph {

// A piece of the file.
struct Span {
  size_t offset = 0;
  size_t size = 0;
};

// Where one initialiser's data stand. `fixed` are the pieces of fixed-width data (raw_data, float_data, double_data) in
// element order: one piece, unless the writer did not pack the field.
struct TensorPlace {
  std::vector<Span> raw;    // raw_data; the last one counts
  std::vector<Span> fixed;  // float_data or double_data
};

// Refuses a file of more than 8 million length-delimited fields: a few bytes each make messages of a hundred bytes.
absl::Status CheckMessageCount(std::string_view file);

// The initialisers of the main graph in file order.
absl::StatusOr<std::vector<TensorPlace>> LocateInitializers(std::string_view file);

// The file with these initialisers (by number) replaced by other serialised TensorProtos; the lengths of the messages
// around them are adapted.
absl::StatusOr<std::string> ReplaceInitializers(std::string_view file, const std::map<size_t, std::string>& tensors);

}  // namespace tandem::graph
