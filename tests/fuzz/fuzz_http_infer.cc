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
#include "fuzz_session.h"
#include "simdjson.h"

using namespace tandem;
using namespace tandem::api;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < sizeof(uint32_t)) return 0;
  uint32_t header;
  memcpy(&header, data, sizeof header);
  std::string body(reinterpret_cast<const char*>(data) + sizeof header, size - sizeof header);
  const size_t length = body.size();
  body.resize(length + simdjson::SIMDJSON_PADDING);
  std::optional<int64_t> json_bytes;
  if (header != UINT32_MAX) json_bytes = header;
  FuzzSession session;
  v2::SharedMemory regions;
  v2::InferCall call;
  http::InferDecoder decoder(64, &regions);
  if (!decoder.Decode(std::string_view(body).substr(0, length), json_bytes, session, &call).ok()) return 0;
  if (!AnswerCall(session, regions, &call)) return 0;
  http::InferAnswer answer;
  (void)http::EncodeAnswer(session, call, &answer);
  return 0;
}
