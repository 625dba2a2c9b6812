#pragma once
// ModelInferRequest and ModelInferResponse. Tensors never become protobuf strings: raw contents are read from the
// socket's pieces into aligned memory, and large outputs are sent from where the engine wrote them.
#include <string>
#include <vector>

#include "api/grpc/infer_codec.h"
#include "inference.pb.h"

namespace tandem::api::rpc {

class V2Codec : public InferCodec {
 public:
  // `in_stream`: answers are ModelStreamInferResponse.
  explicit V2Codec(bool in_stream) : in_stream_(in_stream) {}

  absl::Status Parse(::grpc::ByteBuffer* message, v2::InferCall* call) override;
  std::string_view model() const override { return request_.model_name(); }
  std::string_view version() const override { return request_.model_version(); }
  absl::Status Decode(const InferSession& session, const v2::SharedMemory& regions, v2::InferCall* call) override;
  absl::Status Encode(const InferSession& session, v2::InferCall* call, ::grpc::ByteBuffer* answer) override;
  void Release() override;

 private:
  absl::Status DecodeInput(const inference::ModelInferRequest::InferInputTensor& input, const InferSession& session,
                           const v2::SharedMemory& regions, v2::InferCall* call);
  absl::Status FillInput(const inference::ModelInferRequest::InferInputTensor& input, const v2::SharedMemory& regions,
                         v2::InferCall* call, InputTensor* tensor);

  const bool in_stream_;
  std::string head_;  // the request without its raw contents
  inference::ModelInferRequest request_;
  std::vector<std::string_view> raw_;  // in the call's buffers
  size_t raw_used_ = 0;
  bool wants_final_ = false;  // the client asks for the mark of the last answer
  inference::ModelInferResponse response_;
};

}  // namespace tandem::api::rpc
