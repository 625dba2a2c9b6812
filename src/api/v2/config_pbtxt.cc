#include "api/v2/config_pbtxt.h"

#include <map>

#include "absl/strings/numbers.h"
#include "api/v2/message_reader.h"
#include "api/v2/text_format.h"
#include "base/status.h"
#include "base/text.h"
#include "spec/fields.h"

namespace tandem::api::v2 {
namespace {

using spec::Node;

constexpr int64_t kLargestDim = int64_t{1} << 40;

absl::StatusOr<DType> TypeOf(const Node& node, const std::string& path) {
  static const std::map<std::string_view, std::string_view> kOwnNames = {{"STRING", "BYTES"}};
  constexpr std::string_view kPrefix = "TYPE_";
  if (node.text == "TYPE_INVALID") return DType::kInvalid;
  DType dtype = DType::kInvalid;
  if (node.text.starts_with(kPrefix)) {
    std::string_view name = std::string_view(node.text).substr(kPrefix.size());
    auto own = kOwnNames.find(name);
    dtype = DTypeFromProtocolName(own == kOwnNames.end() ? name : own->second);
  }
  if (dtype == DType::kInvalid) return spec::WrongValue(node, path, "a type like TYPE_FP32, TYPE_INT64 or TYPE_STRING");
  return dtype;
}

absl::StatusOr<DeclaredTensor> ReadTensor(const Node& node, const std::string& path) {
  DeclaredTensor out{.path = path, .where = node.where};
  if (node.kind != Node::Kind::kMap) return spec::WrongValue(node, path, "a message in { }");
  if (const Node* name = node.Find("name")) out.name = name->text;
  if (out.name.empty()) return spec::ErrorAt(node.where, StrCat(path, " has no name"));
  if (const Node* type = node.Find("data_type")) {
    TANDEM_ASSIGN_OR_RETURN(out.dtype, TypeOf(*type, path + ".data_type"));
  }
  const Node* dims = node.Find("dims");
  if (dims == nullptr) return out;
  out.has_dims = true;
  out.where = dims->where;
  auto add = [&](const Node& dim, const std::string& at) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(out.dims.emplace_back(), MessageReader::Whole(dim, at, -1, kLargestDim));
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(MessageReader::ForEach(*dims, path + ".dims", add));
  return out;
}

absl::Status ReadTensors(const Node& root, std::string_view key, std::vector<DeclaredTensor>* out) {
  const Node* list = root.Find(key);
  if (list == nullptr) return absl::OkStatus();
  return MessageReader::ForEach(*list, std::string(key),
                                [&](const Node& node, const std::string& path) -> absl::Status {
                                  TANDEM_ASSIGN_OR_RETURN(out->emplace_back(), ReadTensor(node, path));
                                  return absl::OkStatus();
                                });
}

// A map field is a list of messages with `key` and `value`; this makes a map of it.
absl::Status MakeMap(std::string_view name, Node* root) {
  Node* list = root->Find(name);
  if (list == nullptr) return absl::OkStatus();
  Node map = Node::Map();
  map.where = list->where;
  auto add = [&](const Node& node, const std::string& path) -> absl::Status {
    const Node* key = node.kind == Node::Kind::kMap ? node.Find("key") : nullptr;
    if (key == nullptr || key->kind != Node::Kind::kScalar) {
      return spec::ErrorAt(node.where, StrCat(path, " must be a message with key and value"));
    }
    const Node* value = node.Find("value");
    Node own = value == nullptr ? Node::Map() : *value;
    own.where = key->where;
    map.Set(key->text, std::move(own));
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(MessageReader::ForEach(*list, std::string(name), add));
  *list = std::move(map);
  return absl::OkStatus();
}

// The position of the value at a path that the translator named ("instance_group.0.kind"); keys may have dots in them.
std::string WhereOf(const Node& node, std::string_view path) {
  if (path.empty()) return node.where;
  auto rest = [&](std::string_view key) -> std::optional<std::string_view> {
    if (!path.starts_with(key)) return std::nullopt;
    if (path.size() == key.size()) return std::string_view();
    return path[key.size()] == '.' ? std::optional(path.substr(key.size() + 1)) : std::nullopt;
  };
  for (const Node::Entry& entry : node.entries) {
    auto below = rest(entry.key);
    if (below) return below->empty() && !entry.where.empty() ? entry.where : WhereOf(entry.value, *below);
  }
  for (size_t i = 0; i < node.items.size(); ++i) {
    if (auto below = rest(StrCat(i))) return WhereOf(node.items[i], *below);
  }
  return node.where;
}

bool Fits(int64_t declared, int64_t real) { return declared < 0 || real < 0 || declared == real; }

bool Fits(const Shape& declared, const Shape& real) {
  if (declared.size() != real.size()) return false;
  for (size_t i = 0; i < declared.size(); ++i) {
    if (!Fits(declared[i], real[i])) return false;
  }
  return true;
}

absl::Status CheckTensor(const DeclaredTensor& declared, int max_batch_size, std::string_view what,
                         const std::vector<TensorSignature>& signatures) {
  const TensorSignature* real = nullptr;
  std::vector<std::string> names;
  for (const TensorSignature& signature : signatures) {
    if (signature.name == declared.name) real = &signature;
    names.push_back(StrCat("'", signature.name, "'"));
  }
  if (real == nullptr) {
    std::string has;
    for (const std::string& name : names) StrAppend(&has, has.empty() ? "" : ", ", name);
    return spec::ErrorAt(declared.where, StrCat(declared.path, ": the model has no ", what, " ",
                                                spec::Quoted(declared.name), "; it has ", has));
  }
  if (declared.dtype != DType::kInvalid && declared.dtype != real->dtype) {
    return spec::ErrorAt(declared.where,
                         StrCat(declared.path, ".data_type of '", declared.name, "' is ", ProtocolName(declared.dtype),
                                ", but the model's is ", ProtocolName(real->dtype)));
  }
  if (!declared.has_dims) return absl::OkStatus();
  Shape whole = declared.dims;
  if (max_batch_size > 0) whole.insert(whole.begin(), -1);
  if (Fits(whole, real->shape)) return absl::OkStatus();
  return spec::ErrorAt(declared.where,
                       StrCat(declared.path, ".dims of '", declared.name, "' is ", ToString(declared.dims),
                              max_batch_size > 0 ? StrCat(", with the batch ", ToString(whole)) : std::string(),
                              ", but the model's shape is ", ToString(real->shape)));
}

// Requests are merged along the first dimension of everything.
absl::Status CheckRows(const PbtxtConfig& config, std::string_view what,
                       const std::vector<TensorSignature>& signatures) {
  const int rows = config.translated.config.max_batch_size;
  for (const TensorSignature& signature : signatures) {
    if (rows == 0 || (!signature.shape.empty() && signature.shape[0] < 0)) continue;
    return spec::ErrorAt(config.max_batch_size_where,
                         StrCat("max_batch_size is ", rows, ", but the model's ", what, " '", signature.name,
                                "' has the shape ", ToString(signature.shape),
                                ", whose first dimension cannot be a batch; write 0, or export the model with one"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PbtxtConfig> TranslateModelConfigText(std::string_view text, std::string_view source) {
  PbtxtConfig out;
  TANDEM_ASSIGN_OR_RETURN(Node root, ParseTextFormat(text, source));
  TANDEM_RETURN_IF_ERROR(MakeMap("parameters", &root));
  TANDEM_ASSIGN_OR_RETURN(out.translated, TranslateModelConfig(root));
  const Node* rows = root.Find("max_batch_size");
  out.max_batch_size_where = rows == nullptr ? root.where : rows->where;
  TANDEM_RETURN_IF_ERROR(ReadTensors(root, "input", &out.inputs));
  TANDEM_RETURN_IF_ERROR(ReadTensors(root, "output", &out.outputs));
  for (const std::string& path : out.translated.ignored) {
    out.ignored.push_back(StrCat(WhereOf(root, path), ": ", spec::Escaped(path)));
  }
  return out;
}

absl::Status CheckAgainstModel(const PbtxtConfig& config, const std::vector<TensorSignature>& inputs,
                               const std::vector<TensorSignature>& outputs) {
  const int rows = config.translated.config.max_batch_size;
  TANDEM_RETURN_IF_ERROR(CheckRows(config, "input", inputs));
  TANDEM_RETURN_IF_ERROR(CheckRows(config, "output", outputs));
  for (const DeclaredTensor& input : config.inputs) {
    TANDEM_RETURN_IF_ERROR(CheckTensor(input, rows, "input", inputs));
  }
  for (const DeclaredTensor& output : config.outputs) {
    TANDEM_RETURN_IF_ERROR(CheckTensor(output, rows, "output", outputs));
  }
  return absl::OkStatus();
}

}  // namespace tandem::api::v2
