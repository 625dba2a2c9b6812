#include "api/v2/parameters.h"

#include <limits>

#include "base/status.h"

namespace tandem::api::v2 {
namespace {

constexpr size_t kLongestQuoted = 80;

absl::Status Wrong(std::string_view key, const ParameterValue& value, std::string_view wanted) {
  return InvalidArgument("parameter '", key, "' is ", Describe(value), ", must be ", wanted);
}

absl::Status SetSequenceId(const ParameterValue& value, InferRequest::Sequence* sequence) {
  if (const auto* text = std::get_if<std::string_view>(&value)) {
    sequence->text_id = *text;
    sequence->id = 0;
    return absl::OkStatus();
  }
  if (std::holds_alternative<bool>(value)) return Wrong("sequence_id", value, "a whole number or a text");
  TANDEM_ASSIGN_OR_RETURN(sequence->id, CountOf("sequence_id", value, std::numeric_limits<uint64_t>::max()));
  sequence->text_id = {};
  return absl::OkStatus();
}

}  // namespace

std::string Describe(const ParameterValue& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* text = std::get_if<std::string_view>(&value)) {
    return StrCat("the text '", text->substr(0, kLongestQuoted), "'");
  }
  if (const auto* number = std::get_if<int64_t>(&value)) return StrCat("the number ", *number);
  if (const auto* number = std::get_if<uint64_t>(&value)) return StrCat("the number ", *number);
  return StrCat("the number ", std::get<double>(value));
}

absl::StatusOr<bool> BoolOf(std::string_view key, const ParameterValue& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  return Wrong(key, value, "true or false");
}

absl::StatusOr<uint64_t> CountOf(std::string_view key, const ParameterValue& value, uint64_t most) {
  uint64_t count = 0;
  bool good = false;
  if (const auto* number = std::get_if<int64_t>(&value)) {
    good = *number >= 0;
    count = static_cast<uint64_t>(*number);
  } else if (const auto* large = std::get_if<uint64_t>(&value)) {
    good = true;
    count = *large;
  }
  if (good && count <= most) return count;
  return Wrong(key, value, StrCat("a whole number from 0 to ", most));
}

absl::StatusOr<std::string_view> TextOf(std::string_view key, const ParameterValue& value) {
  if (const auto* text = std::get_if<std::string_view>(&value)) return *text;
  return Wrong(key, value, "a text");
}

absl::Status SetRequestParameter(std::string_view key, const ParameterValue& value, InferCall* call) {
  InferRequest& request = call->request;
  if (key == "sequence_id") return SetSequenceId(value, &request.sequence);
  if (key == "sequence_start") {
    TANDEM_ASSIGN_OR_RETURN(request.sequence.start, BoolOf(key, value));
  } else if (key == "sequence_end") {
    TANDEM_ASSIGN_OR_RETURN(request.sequence.end, BoolOf(key, value));
  } else if (key == "priority") {
    TANDEM_ASSIGN_OR_RETURN(uint64_t priority, CountOf(key, value, std::numeric_limits<uint32_t>::max()));
    request.priority = static_cast<uint32_t>(priority);
  } else if (key == "timeout") {
    TANDEM_ASSIGN_OR_RETURN(uint64_t timeout, CountOf(key, value, std::numeric_limits<int64_t>::max()));
    call->timeout_us = static_cast<int64_t>(timeout);
  } else if (key == "binary_data_output") {
    TANDEM_ASSIGN_OR_RETURN(call->binary_output, BoolOf(key, value));
  } else if (key.starts_with("triton_") && key != "triton_enable_empty_final_response" &&
             key != "triton_final_response") {
    return InvalidArgument("parameter '", key, "': names that begin with triton_ are reserved");
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> RegionParameters::Set(std::string_view key, const ParameterValue& value) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  if (key == "shared_memory_region") {
    TANDEM_ASSIGN_OR_RETURN(region, TextOf(key, value));
  } else if (key == "shared_memory_offset") {
    TANDEM_ASSIGN_OR_RETURN(offset, CountOf(key, value, kMost));
    has_offset = true;
  } else if (key == "shared_memory_byte_size") {
    TANDEM_ASSIGN_OR_RETURN(byte_size, CountOf(key, value, kMost));
  } else {
    return false;
  }
  return true;
}

absl::Status RegionParameters::Check() const {
  if (region.empty()) {
    if (!has_offset && !byte_size.has_value()) return absl::OkStatus();
    return InvalidArgument("has parameter 'shared_memory_", has_offset ? "offset" : "byte_size",
                           "' without 'shared_memory_region'");
  }
  if (byte_size.has_value()) return absl::OkStatus();
  return InvalidArgument("has parameter 'shared_memory_region' without 'shared_memory_byte_size'");
}

absl::Status InputParameters::Set(std::string_view key, const ParameterValue& value) {
  TANDEM_ASSIGN_OR_RETURN(bool is_shared, shared.Set(key, value));
  if (is_shared || key != "binary_data_size") return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(binary_bytes, CountOf(key, value, std::numeric_limits<int64_t>::max()));
  return absl::OkStatus();
}

absl::Status OutputParameters::Set(std::string_view key, const ParameterValue& value) {
  TANDEM_ASSIGN_OR_RETURN(bool is_shared, shared.Set(key, value));
  if (is_shared) return absl::OkStatus();
  if (key == "binary_data") {
    TANDEM_ASSIGN_OR_RETURN(binary, BoolOf(key, value));
  } else if (key == "classification") {
    TANDEM_ASSIGN_OR_RETURN(uint64_t count, CountOf(key, value, std::numeric_limits<int32_t>::max()));
    classes = static_cast<int64_t>(count);
  }
  return absl::OkStatus();
}

absl::Status OutputParameters::ApplyTo(bool binary_default, WantedOutput* output) const {
  TANDEM_RETURN_IF_ERROR(shared.Check());
  if (!shared.region.empty() && classes > 0) {
    return InvalidArgument(
        "has both 'classification' and 'shared_memory_region'; classes are given in the answer only");
  }
  if (!shared.region.empty() && binary == true) {
    return InvalidArgument("has both 'binary_data' and 'shared_memory_region'; send one");
  }
  output->binary = binary.value_or(binary_default);
  output->classes = classes;
  output->region = shared.region;
  output->offset = shared.offset;
  output->byte_size = shared.byte_size.value_or(0);
  return absl::OkStatus();
}

}  // namespace tandem::api::v2
