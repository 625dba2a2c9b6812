#include "api/grpc/bytes.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <cmath>
#include <string>

#include "base/status.h"

namespace tandem::api::rpc {
namespace {

// Clients accept trailers of 8 kB, and each byte may become three there.
constexpr size_t kLongestMessage = 2000;

std::string_view CutAtCharacter(std::string_view text, size_t length) {
  if (text.size() <= length) return text;
  while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  return text.substr(0, length);
}

}  // namespace

absl::Status ParseMessage(::grpc::ByteBuffer* bytes, google::protobuf::Message* message) {
  ::grpc::ProtoBufferReader reader(bytes);
  if (reader.status().ok() && message->ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  return InvalidArgument("the request is not a well-formed ", message->GetDescriptor()->full_name());
}

void WriteMessage(const google::protobuf::Message& message, ::grpc::ByteBuffer* bytes) {
  ::grpc::Slice slice(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  ::grpc::ByteBuffer whole(&slice, 1);
  bytes->Swap(&whole);
}

::grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return ::grpc::Status::OK;
  return ::grpc::Status(static_cast<::grpc::StatusCode>(status.code()),
                        std::string(CutAtCharacter(MessageOf(status), kLongestMessage)));
}

void AddHints(const absl::Status& status, ::grpc::ServerContext* context) {
  const double seconds = RetryAfterOf(status);
  if (seconds > 0) context->AddTrailingMetadata("retry-after", StrCat(static_cast<int64_t>(std::ceil(seconds))));
}

}  // namespace tandem::api::rpc
