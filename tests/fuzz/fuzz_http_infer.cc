// An infer request over HTTP: JSON, the binary tensor extension, raw bytes. The input begins with the length of the
// JSON as the header would give it (four bytes, little endian; all bits set = no header), and the model has an input of
// each kind of type.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <optional>
#include <string>
#include <string_view>

#include "api/http/infer_decoder.h"
#include "api/http/infer_encoder.h"
#include "simdjson.h"

using namespace tandem;
using namespace tandem::api;

namespace {

class Session : public InferSession {
 public:
  const std::string& model() const override { return name_; }
  const std::string& version() const override { return version_; }
  const std::string& platform() const override { return name_; }
  const std::vector<TensorSignature>& inputs() const override { return tensors_; }
  const std::vector<TensorSignature>& outputs() const override { return tensors_; }
  const spec::ModelConfig& config() const override { return config_; }
  void Start(InferRequest*) override {}
  void Done(bool, const InferTiming&, int64_t, int64_t) override {}

 private:
  const std::string name_ = "m", version_ = "1";
  const std::vector<TensorSignature> tensors_ = {{"x", DType::kFloat32, {-1, 4}},
                                                 {"y", DType::kUint64, {-1}},
                                                 {"s", DType::kString, {-1}},
                                                 {"b", DType::kBool, {}}};
  spec::ModelConfig config_;
};

// What a model that gives its inputs back would answer.
void Answer(v2::InferCall* call) {
  for (const InputTensor& input : call->request.inputs) {
    Tensor& output = call->request.outputs.emplace_back();
    output.name = input.name;
    output.dtype = input.dtype;
    output.shape = input.shape;
    output.buffer.Resize(input.byte_size);
    if (input.byte_size > 0) memcpy(output.buffer.data(), input.data, input.byte_size);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < sizeof(uint32_t)) return 0;
  uint32_t header;
  memcpy(&header, data, sizeof header);
  std::string body(reinterpret_cast<const char*>(data) + sizeof header, size - sizeof header);
  const size_t length = body.size();
  body.resize(length + simdjson::SIMDJSON_PADDING);
  std::optional<int64_t> json_bytes;
  if (header != UINT32_MAX) json_bytes = header;
  Session session;
  v2::SharedMemory regions;
  v2::InferCall call;
  http::InferDecoder decoder(64, &regions);
  if (!decoder.Decode(std::string_view(body).substr(0, length), json_bytes, session, &call).ok()) return 0;
  if (!v2::PrepareOutputs(session, regions, &call).ok()) return 0;
  call.request.outputs.clear();
  Answer(&call);
  if (!v2::FinishOutputs(session, &call).ok()) return 0;
  http::InferAnswer answer;
  (void)http::EncodeAnswer(session, call, &answer);
  return 0;
}
