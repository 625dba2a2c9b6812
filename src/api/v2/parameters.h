#pragma once
// The parameters of requests, inputs and wanted outputs: what each means, whatever door it came through.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/status.h"
#include "api/v2/infer_call.h"

namespace tandem::api::v2 {

using ParameterValue = std::variant<bool, int64_t, uint64_t, double, std::string_view>;

// Each Set below: InvalidArgument names the key when the value is of the wrong type or out of its range. Keys without a
// meaning here are accepted, as clients may send parameters for the models of other servers.

// sequence_id, sequence_start, sequence_end, priority, timeout (microseconds), binary_data_output. Names that begin
// with "triton_" are refused, but for the two that clients send to every server.
absl::Status SetRequestParameter(std::string_view key, const ParameterValue& value, InferCall* call);

// A piece of shared memory: shared_memory_region, shared_memory_offset, shared_memory_byte_size.
struct RegionParameters {
  std::string_view region;  // "" = none
  size_t offset = 0;
  std::optional<size_t> byte_size;
  bool has_offset = false;

  // False when the key is none of the three.
  absl::StatusOr<bool> Set(std::string_view key, const ParameterValue& value);
  // The region comes with its size, and the rest does not come without it.
  absl::Status Check() const;
};

struct InputParameters {
  RegionParameters shared;
  std::optional<size_t> binary_bytes;  // binary_data_size

  absl::Status Set(std::string_view key, const ParameterValue& value);
};

struct OutputParameters {
  RegionParameters shared;
  std::optional<bool> binary;  // binary_data
  int64_t classes = 0;         // classification

  absl::Status Set(std::string_view key, const ParameterValue& value);
  // InvalidArgument when they contradict each other. `binary_default`: the request's.
  absl::Status ApplyTo(bool binary_default, WantedOutput* output) const;
};

// A value for a message: "the text 'a'", "the number 5", "true".
std::string Describe(const ParameterValue& value);
// InvalidArgument("parameter 'key' is <value>, must be <wanted>") unless it has that type (and lies in [0, most]).
absl::StatusOr<bool> BoolOf(std::string_view key, const ParameterValue& value);
absl::StatusOr<uint64_t> CountOf(std::string_view key, const ParameterValue& value, uint64_t most);
absl::StatusOr<std::string_view> TextOf(std::string_view key, const ParameterValue& value);

}  // namespace tandem::api::v2
