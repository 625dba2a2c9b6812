#pragma once
// Compressed messages. gRPC itself would unpack a message whatever it grows to, so the server takes them as they came
// and unpacks them with a bound.
#include <grpc/compression.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>

#include "absl/status/statusor.h"

namespace tandem::api::rpc {

bool IsPacked(::grpc::ByteBuffer* message);

// Unpacks the message, if it is packed. Gives how it was packed, GRPC_COMPRESS_NONE if it was not. ResourceExhausted
// when it grows beyond `most` bytes, InvalidArgument when the packed bytes are broken.
absl::StatusOr<grpc_compression_algorithm> Unpack(int64_t most, ::grpc::ByteBuffer* message);

}  // namespace tandem::api::rpc
