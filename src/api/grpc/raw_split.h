#pragma once
// Takes raw tensors out of a message before protobuf sees it.
#include <grpcpp/support/byte_buffer.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "api/v2/input_data.h"

namespace tandem::api::rpc {

// Copies the contents of the length-delimited field `raw_field` into `buffers` (aligned, one a field, views in `raw`)
// and every other field as it stands into `head`. At most `most_items` fields of each number. InvalidArgument when the
// bytes are no message.
absl::Status SplitRaw(::grpc::ByteBuffer* message, uint32_t raw_field, size_t most_items, std::string* head,
                      v2::InputBuffers* buffers, std::vector<std::string_view>* raw);

}  // namespace tandem::api::rpc
