// Inference over gRPC, from the bytes of a message to those of the answer. The first byte says which: a
// ModelInferRequest (0, 1), the same in a stream (2), TensorFlow Serving's PredictRequest (3). It also says where the
// message is cut into the two pieces that it comes in.
#include <google/protobuf/stubs/logging.h>
#include <stddef.h>
#include <stdint.h>

#include <memory>

#include "api/grpc/tfserving.h"
#include "api/grpc/v2_codec.h"
#include "fuzz_session.h"

using namespace tandem::api;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A line for each text that is not UTF-8 would be most of the work.
  [[maybe_unused]] static auto* const before = google::protobuf::SetLogHandler(nullptr);
  if (size == 0) return 0;
  const int kind = data[0] % 4;
  const size_t length = size - 1, cut = length * (data[0] / 4) / 64;
  const grpc::Slice slices[] = {{data + 1, cut}, {data + 1 + cut, length - cut}};
  grpc::ByteBuffer message(slices, 2), answer;
  std::unique_ptr<rpc::InferCodec> codec;
  if (kind == 3) {
    codec = std::make_unique<rpc::PredictCodec>();
  } else {
    codec = std::make_unique<rpc::V2Codec>(kind == 2);
  }
  FuzzSession session;
  v2::SharedMemory regions;
  v2::InferCall call;
  if (!codec->Parse(&message, &call).ok() || !codec->Decode(session, regions, &call).ok()) return 0;
  if (AnswerCall(session, regions, &call)) (void)codec->Encode(session, &call, &answer);
  return 0;
}
