// Reading a file: parse, join external data, check, find the initialisers.
#include <climits>

#include "base/files.h"
#include "base/status.h"
#include "google/protobuf/io/coded_stream.h"
#include "graph/check.h"
#include "graph/external.h"
#include "graph/names.h"
#include "graph/rep.h"
#include "graph/tensor_data.h"

namespace tandem::graph {
namespace {

absl::Status ParseProto(std::string_view bytes, onnx::ModelProto* model) {
  if (bytes.empty()) return InvalidArgument("the file is empty");
  if (bytes.size() > INT_MAX) return InvalidArgument("larger than the 2 GB that one ONNX file can hold");
  TANDEM_RETURN_IF_ERROR(CheckMessageCount(bytes));
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  constexpr int kDeepest = 64;
  stream.SetTotalBytesLimit(INT_MAX);
  stream.SetRecursionLimit(kDeepest);
  if (!model->ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage()) {
    return InvalidArgument("not an ONNX file, or cut short");
  }
  return absl::OkStatus();
}

absl::Status Join(const std::filesystem::path& folder, onnx::ModelProto* model, std::string* bytes) {
  TANDEM_RETURN_IF_ERROR(JoinExternalData(folder, model));
  bytes->clear();
  if (!model->SerializeToString(bytes)) return Internal("with its external data it cannot be written as one file");
  return absl::OkStatus();
}

// The initialiser's data: in the file as they stand, or decoded into a buffer of their own.
absl::StatusOr<std::string_view> FindData(const onnx::TensorProto& tensor, const TensorPlace& place,
                                          std::string_view bytes, std::deque<std::string>* decoded) {
  const auto dtype = static_cast<DType>(tensor.data_type());
  if (dtype == DType::kString) return std::string_view();
  Span span;
  if (tensor.has_raw_data() && !place.raw.empty()) span = place.raw.back();
  if (!tensor.has_raw_data() && place.fixed.size() == 1) span = place.fixed.front();
  const std::string_view view = bytes.substr(span.offset, span.size);
  if (tensor.has_raw_data() && view != tensor.raw_data()) {
    return Internal("initialiser ", Quote(tensor.name()), ": its data were not found in the file");
  }
  const bool fixed = tensor.float_data_size() > 0 || tensor.double_data_size() > 0;
  if (dtype != DType::kBool && (tensor.has_raw_data() || (fixed && place.fixed.size() == 1))) return view;
  decoded->push_back(DataBytes(tensor));
  return std::string_view(decoded->back());
}

}  // namespace

absl::StatusOr<Graph> Graph::Parse(std::string bytes, std::string_view source) {
  auto rep = std::make_unique<Rep>();
  rep->bytes = std::move(bytes);
  absl::Status status = ParseProto(rep->bytes, &rep->model);
  if (status.ok()) status = FillRep(rep.get());
  if (!status.ok()) return Annotate(status, StrCat("model ", Quote(source)));
  rep->source = source;
  return Graph(std::move(rep));
}

absl::StatusOr<Graph> Graph::Load(const std::filesystem::path& path) {
  auto rep = std::make_unique<Rep>();
  TANDEM_ASSIGN_OR_RETURN(rep->bytes, ReadFile(path, INT_MAX));
  rep->source = path.string();
  absl::Status status = ParseProto(rep->bytes, &rep->model);
  if (status.ok() && HasExternalData(rep->model)) status = Join(path.parent_path(), &rep->model, &rep->bytes);
  if (status.ok()) status = FillRep(rep.get());
  if (!status.ok()) return Annotate(status, StrCat("model ", Quote(rep->source)));
  return Graph(std::move(rep));
}

absl::Status Graph::FillRep(Rep* rep) {
  TANDEM_ASSIGN_OR_RETURN(rep->opset, CheckModel(rep->model));
  const onnx::GraphProto& graph = rep->model.graph();
  TANDEM_ASSIGN_OR_RETURN(rep->places, LocateInitializers(rep->bytes));
  if (rep->places.size() != static_cast<size_t>(graph.initializer_size())) {
    return Internal("found ", rep->places.size(), " initialisers where there are ", graph.initializer_size());
  }
  for (int i = 0; i < graph.initializer_size(); ++i) {
    const onnx::TensorProto& tensor = graph.initializer(i);
    TANDEM_ASSIGN_OR_RETURN(std::string_view data, FindData(tensor, rep->places[i], rep->bytes, &rep->decoded));
    rep->initializers.push_back({tensor.name(), static_cast<DType>(tensor.data_type()),
                                 Shape(tensor.dims().begin(), tensor.dims().end()), data});
  }
  for (size_t i = 0; i < rep->initializers.size(); ++i) rep->by_name.emplace(rep->initializers[i].name, i);
  for (const onnx::ValueInfoProto& input : graph.input()) {
    if (rep->by_name.contains(input.name())) continue;
    absl::StatusOr<TensorSignature> signature = SignatureOf(input);
    if (!signature.ok()) return Annotate(signature.status(), StrCat("input ", Quote(input.name())));
    if (!input.type().tensor_type().has_shape()) {
      return InvalidArgument("input ", Quote(input.name()), " has no shape; export the model with one ([N, ...])");
    }
    rep->inputs.push_back(*std::move(signature));
  }
  for (const onnx::ValueInfoProto& output : graph.output()) {
    absl::StatusOr<TensorSignature> signature = SignatureOf(output);
    if (!signature.ok()) return Annotate(signature.status(), StrCat("output ", Quote(output.name())));
    rep->outputs.push_back(*std::move(signature));
  }
  return absl::OkStatus();
}

Graph::Graph(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;
Graph::~Graph() = default;

const onnx::ModelProto& Graph::model() const { return rep_->model; }
std::string_view Graph::bytes() const { return rep_->bytes; }
int64_t Graph::opset() const { return rep_->opset; }
const std::vector<TensorSignature>& Graph::inputs() const { return rep_->inputs; }
const std::vector<TensorSignature>& Graph::outputs() const { return rep_->outputs; }
const std::vector<Graph::Initializer>& Graph::initializers() const { return rep_->initializers; }

const Graph::Initializer* Graph::FindInitializer(std::string_view name) const {
  const auto found = rep_->by_name.find(name);
  return found == rep_->by_name.end() ? nullptr : &rep_->initializers[found->second];
}

}  // namespace tandem::graph
