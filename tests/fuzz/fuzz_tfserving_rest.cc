// A predict request of TensorFlow Serving's REST interface, and its answer. The first byte says whether the model has
// one input, of which type, or several.
#include <stddef.h>
#include <stdint.h>

#include <string>
#include <string_view>

#include "api/http/tfserving_decoder.h"
#include "api/http/tfserving_encoder.h"
#include "fuzz_session.h"
#include "simdjson.h"

using namespace tandem;
using namespace tandem::api;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::vector<TensorSignature> tensors = FuzzSession::Tensors();
  if (const size_t only = data[0] % (tensors.size() + 1); only < tensors.size()) tensors = {tensors[only]};
  std::string body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t length = body.size();
  body.resize(length + simdjson::SIMDJSON_PADDING);
  FuzzSession session(std::move(tensors));
  v2::SharedMemory regions;
  v2::InferCall call;
  http::TfServingDecoder decoder(64);
  if (!decoder.Decode(std::string_view(body).substr(0, length), session, &call).ok()) return 0;
  if (!AnswerCall(session, regions, &call)) return 0;
  http::InferAnswer answer;
  (void)http::EncodeTfServing(call, decoder.in_rows(), &answer);
  return 0;
}
