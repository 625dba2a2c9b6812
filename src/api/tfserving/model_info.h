#pragma once
// What TensorFlow Serving's clients are told about models, whatever door they came through. A model has one signature,
// and a label is an alias.
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/service.h"
#include "base/tensor.h"

namespace tandem::api::tfs {

inline constexpr std::string_view kSignature = "serving_default";
inline constexpr std::string_view kPredictMethod = "tensorflow/serving/predict";

// InvalidArgument for a signature other than "" and the one there is.
absl::Status CheckSignature(std::string_view model, std::string_view signature);

// Element types and what TensorFlow calls them.
struct ElementType {
  DType dtype;
  int number;             // of tensorflow::DataType
  std::string_view name;  // "DT_FLOAT"
};
std::span<const ElementType> ElementTypes();
// "DT_INVALID" for types that TensorFlow does not know.
std::string_view ElementTypeName(DType dtype);

// The graph's tensor behind an input or output, as TensorFlow writes it: "x:0".
std::string GraphName(std::string_view name);

struct VersionStatus {
  std::string version;
  std::string_view state;  // of tensorflow.serving.ModelVersionStatus.State: "AVAILABLE"
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string message;
};
// The newest version first, at least one. `version`: "" = all, a number, or an alias. NotFound, Unavailable.
absl::StatusOr<std::vector<VersionStatus>> StatusOf(Inference* inference, std::string_view model,
                                                    std::string_view version);

}  // namespace tandem::api::tfs
