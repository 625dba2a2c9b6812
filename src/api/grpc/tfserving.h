#pragma once
// TensorFlow Serving's gRPC services, for clients that know nothing else: PredictionService (Predict, GetModelMetadata)
// and ModelService (GetModelStatus). A model has one signature, "serving_default"; a label is an alias.
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "api/grpc/infer_codec.h"
#include "api/grpc/method.h"
#include "tensorflow_serving.pb.h"

namespace tandem::api::rpc {

std::vector<Method> TfServingMethods();

// tensorflow::DT_INVALID and DType::kInvalid for what the other side does not know.
tensorflow::DataType ToTensorFlow(DType dtype);
DType FromTensorFlow(tensorflow::DataType dtype);

// Points `tensor` (whose dtype is set) to the values of `from`: tensor_content, or the list of its type, of which the
// last element fills what is missing. Numbers in a list are converted, which copies. InvalidArgument for an unknown
// shape, a list of another type or too long, a value that does not fit.
absl::Status UseTensorProto(const tensorflow::TensorProto& from, v2::InputBuffers* buffers, InputTensor* tensor);
// Values go into the list of the type, as TensorFlow Serving sends them: clients read `float_val`.
absl::Status FillTensorProto(const Tensor& tensor, tensorflow::TensorProto* out);

// What the protocol calls the version: "" = the default, a number, or an alias. InvalidArgument for a signature other
// than the one there is.
absl::StatusOr<std::string> VersionOf(const tensorflow::serving::ModelSpec& spec);

// PredictRequest and PredictResponse.
class PredictCodec : public InferCodec {
 public:
  absl::Status Parse(::grpc::ByteBuffer* message, v2::InferCall* call) override;
  std::string_view model() const override { return request_.model_spec().name(); }
  std::string_view version() const override { return version_; }
  absl::Status Decode(const InferSession& session, const v2::SharedMemory& regions, v2::InferCall* call) override;
  absl::Status Encode(const InferSession& session, v2::InferCall* call, ::grpc::ByteBuffer* answer) override;
  void Release() override;

 private:
  size_t bytes_ = 0;  // of the request, and of the answer
  tensorflow::serving::PredictRequest request_;
  std::string version_;
  tensorflow::serving::PredictResponse response_;
};

}  // namespace tandem::api::rpc
