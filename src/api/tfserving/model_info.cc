#include "api/tfserving/model_info.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "base/status.h"
#include "base/strings.h"

namespace tandem::api::tfs {
namespace {

constexpr ElementType kTypes[] = {
    {DType::kFloat32, 1, "DT_FLOAT"},      {DType::kFloat64, 2, "DT_DOUBLE"}, {DType::kInt32, 3, "DT_INT32"},
    {DType::kUint8, 4, "DT_UINT8"},        {DType::kInt16, 5, "DT_INT16"},    {DType::kInt8, 6, "DT_INT8"},
    {DType::kString, 7, "DT_STRING"},      {DType::kInt64, 9, "DT_INT64"},    {DType::kBool, 10, "DT_BOOL"},
    {DType::kBFloat16, 14, "DT_BFLOAT16"}, {DType::kUint16, 17, "DT_UINT16"}, {DType::kFloat16, 19, "DT_HALF"},
    {DType::kUint32, 22, "DT_UINT32"},     {DType::kUint64, 23, "DT_UINT64"},
};

std::string_view StateOf(std::string_view state) {
  if (state == "READY") return "AVAILABLE";
  if (state == "LOADING" || state == "UNLOADING") return state;
  return "END";
}

int64_t NumberOf(const VersionStatus& status) {
  int64_t number = 0;
  return absl::SimpleAtoi(status.version, &number) ? number : 0;
}

}  // namespace

absl::Status CheckSignature(std::string_view model, std::string_view signature) {
  if (signature.empty() || signature == kSignature) return absl::OkStatus();
  return InvalidArgument("model '", model, "' has no signature '", signature, "'; it has '", kSignature, "'");
}

std::span<const ElementType> ElementTypes() { return kTypes; }

std::string_view ElementTypeName(DType dtype) {
  for (const ElementType& type : kTypes) {
    if (type.dtype == dtype) return type.name;
  }
  return "DT_INVALID";
}

std::string GraphName(std::string_view name) { return StrCat(name, name.find(':') == name.npos ? ":0" : ""); }

absl::StatusOr<std::vector<VersionStatus>> StatusOf(Inference* inference, std::string_view model,
                                                    std::string_view version) {
  std::string wanted(version);
  if (!std::all_of(wanted.begin(), wanted.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    TANDEM_ASSIGN_OR_RETURN(auto session, inference->Open(model, version));
    wanted = session->version();
  }
  std::vector<VersionStatus> found;
  for (const RepositoryEntry& entry : inference->Repository(false)) {
    // An entry of the whole model has no version, and this protocol no place for it.
    if (entry.model != model || entry.version.empty() || (!wanted.empty() && entry.version != wanted)) continue;
    const bool failed = entry.state == "UNAVAILABLE" && !entry.reason.empty();
    found.push_back({.version = entry.version,
                     .state = StateOf(entry.state),
                     .code = failed ? absl::StatusCode::kUnknown : absl::StatusCode::kOk,
                     .message = entry.reason});
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return NumberOf(a) > NumberOf(b); });
  if (!found.empty()) return found;
  // Its message says what there is.
  TANDEM_RETURN_IF_ERROR(inference->Open(model, version).status());
  return NotFound("model '", model, "' is not served");
}

}  // namespace tandem::api::tfs
