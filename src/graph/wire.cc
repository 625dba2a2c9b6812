#include "graph/wire.h"

#include <optional>

#include "base/status.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {
namespace {

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

struct Field {
  uint32_t number = 0;
  uint32_t type = 0;
  Span whole;    // with tag and length
  Span payload;  // without
};

// Reads the fields of one message that fills `span` of `file`.
class FieldReader {
 public:
  FieldReader(std::string_view file, Span span) : file_(file), at_(span.offset), end_(span.offset + span.size) {}

  // Empty at the end of the message; an error where the bytes are not well formed.
  absl::StatusOr<std::optional<Field>> Next() {
    if (at_ == end_) return std::optional<Field>();
    Field field;
    field.whole.offset = at_;
    uint64_t tag = 0;
    if (!ReadVarint(&tag) || tag > UINT32_MAX) return Broken();
    field.number = static_cast<uint32_t>(tag >> 3);
    field.type = static_cast<uint32_t>(tag & 7);
    uint64_t size = 0;
    field.payload.offset = at_;
    if (field.type == kVarint) {
      uint64_t value = 0;
      if (!ReadVarint(&value)) return Broken();
      size = at_ - field.payload.offset;
      at_ = field.payload.offset;
    } else if (field.type == kLength) {
      if (!ReadVarint(&size)) return Broken();
      field.payload.offset = at_;
    } else if (field.type == kFixed32 || field.type == kFixed64) {
      size = field.type == kFixed32 ? 4 : 8;
    } else {
      return Broken();
    }
    if (field.number == 0 || size > end_ - at_) return Broken();
    at_ += size;
    field.payload.size = size;
    field.whole.size = at_ - field.whole.offset;
    return std::optional<Field>(field);
  }

 private:
  bool ReadVarint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 70 && at_ < end_; shift += 7) {
      const auto byte = static_cast<uint8_t>(file_[at_++]);
      if (shift < 64) *value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  absl::Status Broken() const { return InvalidArgument("not an ONNX file, or cut short: broken near byte ", at_); }

  std::string_view file_;
  size_t at_, end_;
};

// Calls `visit(field)`, which returns a Status, for each field of the message.
template <typename Visit>
absl::Status ForEachField(std::string_view file, Span message, Visit visit) {
  FieldReader reader(file, message);
  while (true) {
    TANDEM_ASSIGN_OR_RETURN(std::optional<Field> field, reader.Next());
    if (!field) return absl::OkStatus();
    TANDEM_RETURN_IF_ERROR(visit(*field));
  }
}

bool IsMessage(const Field& field, int number) {
  return field.type == kLength && field.number == static_cast<uint32_t>(number);
}

// The messages whose fields may be many.
enum class Kind {
  kLeaf,
  kModel,
  kGraph,
  kNode,
  kAttribute,
  kTensor,
  kValueInfo,
  kType,
  kTensorType,
  kShape,
  kFunction
};

struct Nested {
  Kind kind;
  int field;
  Kind of;
};

constexpr Nested kNested[] = {
    {Kind::kModel, onnx::ModelProto::kGraphFieldNumber, Kind::kGraph},
    {Kind::kModel, onnx::ModelProto::kFunctionsFieldNumber, Kind::kFunction},
    {Kind::kModel, onnx::ModelProto::kTrainingInfoFieldNumber, Kind::kFunction},
    {Kind::kFunction, onnx::FunctionProto::kNodeFieldNumber, Kind::kNode},
    {Kind::kGraph, onnx::GraphProto::kNodeFieldNumber, Kind::kNode},
    {Kind::kGraph, onnx::GraphProto::kInitializerFieldNumber, Kind::kTensor},
    {Kind::kGraph, onnx::GraphProto::kInputFieldNumber, Kind::kValueInfo},
    {Kind::kGraph, onnx::GraphProto::kOutputFieldNumber, Kind::kValueInfo},
    {Kind::kGraph, onnx::GraphProto::kValueInfoFieldNumber, Kind::kValueInfo},
    {Kind::kNode, onnx::NodeProto::kAttributeFieldNumber, Kind::kAttribute},
    {Kind::kAttribute, onnx::AttributeProto::kTFieldNumber, Kind::kTensor},
    {Kind::kAttribute, onnx::AttributeProto::kTensorsFieldNumber, Kind::kTensor},
    {Kind::kAttribute, onnx::AttributeProto::kGFieldNumber, Kind::kGraph},
    {Kind::kAttribute, onnx::AttributeProto::kGraphsFieldNumber, Kind::kGraph},
    {Kind::kValueInfo, onnx::ValueInfoProto::kTypeFieldNumber, Kind::kType},
    {Kind::kType, onnx::TypeProto::kTensorTypeFieldNumber, Kind::kTensorType},
    {Kind::kTensorType, onnx::TypeProto::Tensor::kShapeFieldNumber, Kind::kShape},
};

Kind KindOf(Kind parent, const Field& field) {
  for (const Nested& nested : kNested) {
    if (nested.kind == parent && IsMessage(field, nested.field)) return nested.of;
  }
  return Kind::kLeaf;
}

}  // namespace

absl::Status CheckMessageCount(std::string_view file) {
  constexpr int64_t kMostFields = 8'000'000;
  int64_t fields = 0;
  std::vector<std::pair<Kind, Span>> todo = {{Kind::kModel, Span{0, file.size()}}};
  while (!todo.empty()) {
    const auto [kind, span] = todo.back();
    todo.pop_back();
    TANDEM_RETURN_IF_ERROR(ForEachField(file, span, [&, kind = kind](const Field& field) -> absl::Status {
      if (field.type != kLength) return absl::OkStatus();
      if (++fields > kMostFields) return InvalidArgument("more than ", kMostFields, " nodes, names and attributes");
      const Kind nested = KindOf(kind, field);
      if (nested != Kind::kLeaf) todo.emplace_back(nested, field.payload);
      return absl::OkStatus();
    }));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TensorPlace>> LocateInitializers(std::string_view file) {
  std::vector<TensorPlace> places;
  const auto visit_tensor = [&](const Field& field) {
    TensorPlace& place = places.back();
    const auto number = static_cast<int>(field.number);
    if (IsMessage(field, onnx::TensorProto::kRawDataFieldNumber)) place.raw.push_back(field.payload);
    const bool is_float = number == onnx::TensorProto::kFloatDataFieldNumber;
    const bool is_double = number == onnx::TensorProto::kDoubleDataFieldNumber;
    if ((is_float && field.type != kFixed64) || (is_double && field.type != kFixed32)) {
      if (field.type != kVarint) place.fixed.push_back(field.payload);
    }
    return absl::OkStatus();
  };
  const auto visit_graph = [&](const Field& field) {
    if (!IsMessage(field, onnx::GraphProto::kInitializerFieldNumber)) return absl::OkStatus();
    places.emplace_back();
    return ForEachField(file, field.payload, visit_tensor);
  };
  TANDEM_RETURN_IF_ERROR(ForEachField(file, {0, file.size()}, [&](const Field& field) {
    if (!IsMessage(field, onnx::ModelProto::kGraphFieldNumber)) return absl::OkStatus();
    return ForEachField(file, field.payload, visit_graph);
  }));
  return places;
}

namespace {

void AppendMessage(std::string* out, int field, std::string_view payload) {
  const auto append_varint = [out](uint64_t value) {
    for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
    out->push_back(static_cast<char>(value));
  };
  append_varint(static_cast<uint64_t>(field) << 3 | kLength);
  append_varint(payload.size());
  out->append(payload);
}

}  // namespace

absl::StatusOr<std::string> ReplaceInitializers(std::string_view file, const std::map<size_t, std::string>& tensors) {
  std::string out;
  size_t number = 0;
  TANDEM_RETURN_IF_ERROR(ForEachField(file, {0, file.size()}, [&](const Field& field) -> absl::Status {
    if (!IsMessage(field, onnx::ModelProto::kGraphFieldNumber)) {
      out.append(file.substr(field.whole.offset, field.whole.size));
      return absl::OkStatus();
    }
    std::string graph;
    TANDEM_RETURN_IF_ERROR(ForEachField(file, field.payload, [&](const Field& inner) {
      const bool initializer = IsMessage(inner, onnx::GraphProto::kInitializerFieldNumber);
      const auto replaced = initializer ? tensors.find(number++) : tensors.end();
      if (replaced == tensors.end()) {
        graph.append(file.substr(inner.whole.offset, inner.whole.size));
      } else {
        AppendMessage(&graph, onnx::GraphProto::kInitializerFieldNumber, replaced->second);
      }
      return absl::OkStatus();
    }));
    AppendMessage(&out, onnx::ModelProto::kGraphFieldNumber, graph);
    return absl::OkStatus();
  }));
  return out;
}

}  // namespace tandem::graph
