#include "api/grpc/v2_codec.h"

#include "api/grpc/answer_bytes.h"
#include "api/grpc/raw_split.h"
#include "api/grpc/typed_contents.h"
#include "api/v2/parameters.h"
#include "base/status.h"

namespace tandem::api::rpc {
namespace {

using inference::InferParameter;
using inference::ModelInferRequest;
using inference::ModelInferResponse;

constexpr int kMostDimensions = 16;
// Of inputs, outputs and parameters of one request.
constexpr size_t kMostItems = 8192;
constexpr uint32_t kRawOutputTag = ModelInferResponse::kRawOutputContentsFieldNumber << 3 | 2;
constexpr uint32_t kStreamedTag = inference::ModelStreamInferResponse::kInferResponseFieldNumber << 3 | 2;

absl::StatusOr<v2::ParameterValue> ValueOf(std::string_view key, const InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case InferParameter::kBoolParam:
      return v2::ParameterValue(parameter.bool_param());
    case InferParameter::kInt64Param:
      return v2::ParameterValue(parameter.int64_param());
    case InferParameter::kUint64Param:
      return v2::ParameterValue(parameter.uint64_param());
    case InferParameter::kDoubleParam:
      return v2::ParameterValue(parameter.double_param());
    case InferParameter::kStringParam:
      return v2::ParameterValue(std::string_view(parameter.string_param()));
    default:
      return InvalidArgument("parameter '", key, "' has no value");
  }
}

absl::Status DecodeOutput(const ModelInferRequest::InferRequestedOutputTensor& output, const InferSession& session,
                          v2::InferCall* call) {
  v2::WantedOutput wanted{.name = output.name()};
  v2::OutputParameters parameters;
  absl::Status status = [&]() -> absl::Status {
    for (const auto& [key, parameter] : output.parameters()) {
      TANDEM_ASSIGN_OR_RETURN(v2::ParameterValue value, ValueOf(key, parameter));
      TANDEM_RETURN_IF_ERROR(parameters.Set(key, value));
    }
    return parameters.ApplyTo(true, &wanted);
  }();
  if (!status.ok()) return Annotate(status, StrCat("output '", output.name(), "'"));
  return v2::AddWanted(session, wanted, call);
}

absl::Status ReadShape(const google::protobuf::RepeatedField<int64_t>& dims, Shape* shape) {
  if (dims.size() > kMostDimensions) return InvalidArgument("'shape' has more than ", kMostDimensions, " dimensions");
  for (int64_t dim : dims) {
    if (dim < 0) return InvalidArgument("'shape' has the negative dimension ", dim);
    shape->push_back(dim);
  }
  return absl::OkStatus();
}

const v2::WantedOutput* RegionOf(const v2::InferCall& call, size_t answer) {
  if (call.wanted.empty() || call.wanted[answer].region.empty()) return nullptr;
  return &call.wanted[answer];
}

void DescribeOutputs(const v2::InferCall& call, ModelInferResponse* response) {
  for (size_t i = 0; i < call.answers.size(); ++i) {
    const Tensor& tensor = *call.answers[i];
    auto* output = response->add_outputs();
    output->set_name(tensor.name);
    output->set_datatype(std::string(ProtocolName(tensor.dtype)));
    output->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
    const v2::WantedOutput* region = RegionOf(call, i);
    if (region == nullptr) continue;
    auto& parameters = *output->mutable_parameters();
    parameters["shared_memory_region"].set_string_param(std::string(region->region));
    parameters["shared_memory_byte_size"].set_int64_param(static_cast<int64_t>(tensor.buffer.size()));
    if (region->offset > 0) {
      parameters["shared_memory_offset"].set_int64_param(static_cast<int64_t>(region->offset));
    }
  }
}

// What is sent of each answer: nothing of those in shared memory.
std::vector<std::string_view> RawOutputs(const v2::InferCall& call) {
  std::vector<std::string_view> raw(call.answers.size());
  for (size_t i = 0; i < raw.size(); ++i) {
    if (RegionOf(call, i) == nullptr) raw[i] = call.answers[i]->bytes();
  }
  return raw;
}

}  // namespace

absl::Status V2Codec::Parse(::grpc::ByteBuffer* message, v2::InferCall* call) {
  request_.Clear();
  raw_used_ = 0;
  wants_final_ = false;
  TANDEM_RETURN_IF_ERROR(
      SplitRaw(message, ModelInferRequest::kRawInputContentsFieldNumber, kMostItems, &head_, &call->buffers, &raw_));
  if (!request_.ParseFromString(head_)) {
    return InvalidArgument("the request is not a well-formed ", request_.GetDescriptor()->full_name());
  }
  call->request.id = request_.id();
  if (request_.model_name().empty()) return InvalidArgument("the request has no 'model_name'");
  return absl::OkStatus();
}

void V2Codec::Release() {
  if (head_.size() <= v2::kKeptBytes) return;
  head_ = {};
  request_ = {};
}

absl::Status V2Codec::Decode(const InferSession& session, const v2::SharedMemory& regions, v2::InferCall* call) {
  for (const auto& [key, parameter] : request_.parameters()) {
    TANDEM_ASSIGN_OR_RETURN(v2::ParameterValue value, ValueOf(key, parameter));
    if (key == "triton_enable_empty_final_response") {
      TANDEM_ASSIGN_OR_RETURN(wants_final_, v2::BoolOf(key, value));
    }
    TANDEM_RETURN_IF_ERROR(v2::SetRequestParameter(key, value, call));
  }
  for (const auto& input : request_.inputs()) {
    TANDEM_RETURN_IF_ERROR(DecodeInput(input, session, regions, call));
  }
  if (raw_used_ < raw_.size()) {
    return InvalidArgument("raw_input_contents has ", raw_.size(), " entries, but only ", raw_used_,
                           " inputs are not in shared memory");
  }
  for (const auto& output : request_.outputs()) TANDEM_RETURN_IF_ERROR(DecodeOutput(output, session, call));
  return absl::OkStatus();
}

absl::Status V2Codec::DecodeInput(const ModelInferRequest::InferInputTensor& input, const InferSession& session,
                                  const v2::SharedMemory& regions, v2::InferCall* call) {
  DType dtype = DTypeFromProtocolName(input.datatype());
  TANDEM_ASSIGN_OR_RETURN(InputTensor * tensor, v2::AddInput(session, input.name(), dtype, call));
  absl::Status status = FillInput(input, regions, call, tensor);
  return Annotate(status, StrCat("input '", input.name(), "'"));
}

absl::Status V2Codec::FillInput(const ModelInferRequest::InferInputTensor& input, const v2::SharedMemory& regions,
                                v2::InferCall* call, InputTensor* tensor) {
  if (input.datatype().empty()) return InvalidArgument("has no 'datatype'");
  if (tensor->dtype == DType::kInvalid) return InvalidArgument("datatype '", input.datatype(), "' is unknown");
  TANDEM_RETURN_IF_ERROR(ReadShape(input.shape(), &tensor->shape));
  v2::InputParameters parameters;
  for (const auto& [key, parameter] : input.parameters()) {
    TANDEM_ASSIGN_OR_RETURN(v2::ParameterValue value, ValueOf(key, parameter));
    TANDEM_RETURN_IF_ERROR(parameters.Set(key, value));
  }
  const v2::RegionParameters& shared = parameters.shared;
  TANDEM_RETURN_IF_ERROR(shared.Check());
  if (!shared.region.empty()) {
    if (input.has_contents()) return InvalidArgument("has both 'contents' and 'shared_memory_region'; send one");
    return v2::UseRegion(regions, shared.region, shared.offset, *shared.byte_size, &call->buffers, &call->leases,
                         tensor);
  }
  if (raw_.empty()) return UseContents(input.contents(), &call->buffers, tensor);
  if (input.has_contents()) return InvalidArgument("has both 'contents' and raw_input_contents; send one");
  if (raw_used_ == raw_.size()) {
    return InvalidArgument("raw_input_contents has only ", raw_.size(), " entries, none is left for this input");
  }
  return v2::UseBytes(raw_[raw_used_++], &call->buffers, tensor);
}

absl::Status V2Codec::Encode(const InferSession& session, v2::InferCall* call, ::grpc::ByteBuffer* answer) {
  response_.Clear();
  response_.set_model_name(session.model());
  response_.set_model_version(session.version());
  response_.set_id(request_.id());
  if (wants_final_) (*response_.mutable_parameters())["triton_final_response"].set_bool_param(true);
  DescribeOutputs(*call, &response_);
  std::vector<std::string_view> raw = RawOutputs(*call);

  AnswerBytes bytes;
  if (in_stream_) {
    size_t size = response_.ByteSizeLong();
    for (std::string_view one : raw) size += VarintSize(kRawOutputTag) + VarintSize(one.size()) + one.size();
    bytes.Varint(kStreamedTag);
    bytes.Varint(size);
  }
  response_.AppendToString(bytes.text());
  Loan* loan = nullptr;
  for (std::string_view one : raw) {
    bytes.Varint(kRawOutputTag);
    bytes.Varint(one.size());
    if (one.size() < AnswerBytes::kLent) {
      bytes.text()->append(one);
      continue;
    }
    if (loan == nullptr) loan = new Loan(std::move(call->request.outputs));
    bytes.AddLent(loan, one);
  }
  ::grpc::ByteBuffer whole = bytes.Take();
  answer->Swap(&whole);
  if (loan != nullptr) loan->Return();
  return absl::OkStatus();
}

}  // namespace tandem::api::rpc
