#include "api/grpc/unpack.h"

#include <grpc/impl/codegen/grpc_types.h>

#include <string_view>

#include "api/http/content_coding.h"
#include "base/status.h"

namespace grpc::internal {

// The friend that ByteBuffer has for what its interface leaves out: how the bytes are packed.
class GrpcByteBufferPeer {
 public:
  static grpc_compression_algorithm PackedBy(ByteBuffer* buffer) {
    return buffer->Valid() ? buffer->c_buffer()->data.raw.compression : GRPC_COMPRESS_NONE;
  }
};

}  // namespace grpc::internal

namespace tandem::api::rpc {

bool IsPacked(::grpc::ByteBuffer* message) {
  return ::grpc::internal::GrpcByteBufferPeer::PackedBy(message) != GRPC_COMPRESS_NONE;
}

absl::StatusOr<grpc_compression_algorithm> Unpack(int64_t most, ::grpc::ByteBuffer* message) {
  const grpc_compression_algorithm algorithm = ::grpc::internal::GrpcByteBufferPeer::PackedBy(message);
  if (algorithm == GRPC_COMPRESS_NONE) return algorithm;
  ::grpc::Slice packed;
  if (!message->DumpToSingleSlice(&packed).ok()) return InvalidArgument("the request cannot be read");
  http::Inflater inflater(algorithm == GRPC_COMPRESS_GZIP ? http::Coding::kGzip : http::Coding::kDeflate,
                          {reinterpret_cast<const char*>(packed.begin()), packed.size()});
  http::BodyBuffer unpacked;
  TANDEM_ASSIGN_OR_RETURN(bool whole, inflater.Run(static_cast<size_t>(most) + 1, &unpacked));
  if (!whole || unpacked.size() > static_cast<size_t>(most)) {
    return ResourceExhausted("the request unpacks to more than ", most, " bytes, the largest message that is taken");
  }
  ::grpc::Slice slice(unpacked.view().data(), unpacked.size());
  ::grpc::ByteBuffer plain(&slice, 1);
  message->Swap(&plain);
  return algorithm;
}

}  // namespace tandem::api::rpc
