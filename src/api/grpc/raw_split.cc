#include "api/grpc/raw_split.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <limits>

#include "base/status.h"

namespace tandem::api::rpc {
namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

// False at the end of the bytes, and for groups, which these messages do not have.
bool CopyField(CodedInputStream* in, uint32_t tag, CodedOutputStream* out) {
  out->WriteTag(tag);
  uint64_t wide;
  uint32_t narrow;
  switch (tag & 7) {
    case kVarint:
      if (!in->ReadVarint64(&wide)) return false;
      out->WriteVarint64(wide);
      return true;
    case kFixed64:
      if (!in->ReadLittleEndian64(&wide)) return false;
      out->WriteLittleEndian64(wide);
      return true;
    case kFixed32:
      if (!in->ReadLittleEndian32(&narrow)) return false;
      out->WriteLittleEndian32(narrow);
      return true;
    case kLengthDelimited: {
      std::string bytes;
      if (!in->ReadVarint32(&narrow) || !in->ReadString(&bytes, static_cast<int>(narrow))) return false;
      out->WriteVarint32(narrow);
      out->WriteString(bytes);
      return true;
    }
    default:
      return false;
  }
}

bool ReadRaw(CodedInputStream* in, size_t left, v2::InputBuffers* buffers, std::vector<std::string_view>* raw) {
  uint32_t size;
  if (!in->ReadVarint32(&size) || size > left) return false;
  AlignedBuffer* buffer = buffers->Next(size);
  raw->emplace_back(reinterpret_cast<const char*>(buffer->data()), size);
  return size == 0 || in->ReadRaw(buffer->data(), static_cast<int>(size));
}

absl::Status NoMessage() { return InvalidArgument("the request is not a well-formed message of its method"); }

}  // namespace

absl::Status SplitRaw(::grpc::ByteBuffer* message, uint32_t raw_field, size_t most_items, std::string* head,
                      v2::InputBuffers* buffers, std::vector<std::string_view>* raw) {
  head->clear();
  raw->clear();
  const size_t total = message->Length();
  if (total > static_cast<size_t>(std::numeric_limits<int>::max())) return NoMessage();
  ::grpc::ProtoBufferReader reader(message);
  if (!reader.status().ok()) return NoMessage();
  CodedInputStream in(&reader);
  in.SetTotalBytesLimit(std::numeric_limits<int>::max());
  google::protobuf::io::StringOutputStream head_stream(head);
  CodedOutputStream out(&head_stream);
  // An empty entry takes two bytes on the wire and a hundred in memory.
  size_t items = 0;
  while (uint32_t tag = in.ReadTag()) {
    if (++items > most_items) return InvalidArgument("the request has more than ", most_items, " fields and tensors");
    const size_t left = total - static_cast<size_t>(in.CurrentPosition());
    bool good =
        tag == (raw_field << 3 | kLengthDelimited) ? ReadRaw(&in, left, buffers, raw) : CopyField(&in, tag, &out);
    if (!good) return NoMessage();
  }
  return in.ConsumedEntireMessage() ? absl::OkStatus() : NoMessage();
}

}  // namespace tandem::api::rpc
