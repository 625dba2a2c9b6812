#include "graph/model_builder.h"

#include <cmath>
#include <cstring>

#include "base/status.h"
#include "graph/names.h"

namespace tandem::graph {
namespace {

constexpr float kInputMean = 0.5f;
constexpr float kInputDeviation = 0.25f;

// SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection that mixes all bits.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// FNV-1a.
uint64_t HashOf(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

// The i-th number of the stream, uniform in [-1, 1). Depends on nothing but its arguments.
double Uniform(uint64_t stream, uint64_t i) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  return static_cast<double>(Mix(stream + (i + 1) * kGolden) >> 11) * 0x1p-52 - 1.0;
}

void SetInts(onnx::NodeProto* node, std::string_view name, const std::vector<int64_t>& values) {
  onnx::AttributeProto* attribute = node->add_attribute();
  attribute->set_name(std::string(name));
  attribute->set_type(onnx::AttributeProto::INTS);
  for (int64_t value : values) attribute->add_ints(value);
}

void SetInt(onnx::NodeProto* node, std::string_view name, int64_t value) {
  onnx::AttributeProto* attribute = node->add_attribute();
  attribute->set_name(std::string(name));
  attribute->set_type(onnx::AttributeProto::INT);
  attribute->set_i(value);
}

void SetWindow(onnx::NodeProto* node, int64_t kernel, int64_t stride, int64_t pad) {
  SetInts(node, "kernel_shape", {kernel, kernel});
  SetInts(node, "strides", {stride, stride});
  SetInts(node, "pads", {pad, pad, pad, pad});
}

Shape Windowed(const Shape& x, int64_t channels, int64_t kernel, int64_t stride, int64_t pad) {
  const auto out = [&](int64_t in) { return (in + 2 * pad - kernel) / stride + 1; };
  return {channels, out(x[1]), out(x[2])};
}

// A float value [N, shape...].
void FillValueInfo(onnx::ValueInfoProto* info, const std::string& name, const Shape& shape) {
  info->set_name(name);
  onnx::TypeProto::Tensor* type = info->mutable_type()->mutable_tensor_type();
  type->set_elem_type(onnx::TensorProto::FLOAT);
  type->mutable_shape()->add_dim()->set_dim_param("N");
  for (int64_t dim : shape) type->mutable_shape()->add_dim()->set_dim_value(dim);
}

}  // namespace

ModelBuilder::ModelBuilder(std::string_view graph_name, uint64_t seed) : seed_(seed) {
  constexpr int kIrVersion = 8;
  constexpr int kOpset = 17;
  model_.set_ir_version(kIrVersion);
  model_.set_producer_name("tandem");
  model_.add_opset_import()->set_version(kOpset);
  model_.mutable_graph()->set_name(std::string(graph_name));
}

onnx::NodeProto* ModelBuilder::AddNode(const std::string& name, std::string_view op, std::vector<std::string> inputs) {
  onnx::NodeProto* node = model_.mutable_graph()->add_node();
  node->set_name(name);
  node->set_op_type(std::string(op));
  for (std::string& input : inputs) node->add_input(std::move(input));
  node->add_output(StrCat(name, ".out"));
  return node;
}

onnx::TensorProto* ModelBuilder::AddInitializer(const std::string& name, const Shape& shape, int64_t* elements) {
  constexpr int64_t kMostBytes = 2'000'000'000;
  absl::StatusOr<int64_t> count = ElementCount(shape);
  if (status_.ok() && !count.ok()) status_ = count.status();
  *elements = count.value_or(0);
  if (*elements > (kMostBytes - bytes_) / static_cast<int64_t>(sizeof(float))) {
    *elements = 0;
    if (status_.ok()) status_ = InvalidArgument(Quote(name), " makes the model larger than 2 GB");
  }
  bytes_ += *elements * static_cast<int64_t>(sizeof(float));
  onnx::TensorProto* tensor = model_.mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::FLOAT);
  for (int64_t dim : shape) tensor->add_dims(dim);
  return tensor;
}

void ModelBuilder::AddRandom(const std::string& name, const Shape& shape, double variance) {
  int64_t elements = 0;
  onnx::TensorProto* tensor = AddInitializer(name, shape, &elements);
  const double limit = std::sqrt(3.0 * variance);
  const uint64_t stream = Mix(Mix(seed_) ^ HashOf(name));
  std::string data(static_cast<size_t>(elements) * sizeof(float), '\0');
  for (int64_t i = 0; i < elements; ++i) {
    const auto value = static_cast<float>(limit * Uniform(stream, static_cast<uint64_t>(i)));
    std::memcpy(data.data() + static_cast<size_t>(i) * sizeof(float), &value, sizeof(float));
  }
  tensor->set_raw_data(std::move(data));
}

void ModelBuilder::AddConstant(const std::string& name, const Shape& shape, float value) {
  int64_t elements = 0;
  onnx::TensorProto* tensor = AddInitializer(name, shape, &elements);
  const std::vector<float> values(static_cast<size_t>(elements), value);
  tensor->set_raw_data(values.data(), values.size() * sizeof(float));
}

Value ModelBuilder::Input(const Shape& shape) {
  FillValueInfo(model_.mutable_graph()->add_input(), "input", shape);
  Shape per_channel(shape.size() + 1, 1);
  per_channel[1] = shape[0];
  AddConstant("normalise.mean", per_channel, kInputMean);
  AddConstant("normalise.std", per_channel, kInputDeviation);
  AddNode("normalise.sub", "Sub", {"input", "normalise.mean"});
  return {AddNode("normalise.div", "Div", {"normalise.sub.out", "normalise.std"})->output(0), shape};
}

Value ModelBuilder::Convolve(const std::string& name, const Value& x, int64_t channels, int64_t kernel, int64_t stride,
                             int64_t pad, bool bias) {
  const int64_t fan_in = x.shape[0] * kernel * kernel;
  AddRandom(name + ".weight", {channels, x.shape[0], kernel, kernel}, 2.0 / static_cast<double>(fan_in));
  onnx::NodeProto* node = AddNode(name, "Conv", {x.name, name + ".weight"});
  if (bias) {
    AddConstant(name + ".bias", {channels}, 0.0f);
    node->add_input(name + ".bias");
  }
  SetWindow(node, kernel, stride, pad);
  return {node->output(0), Windowed(x.shape, channels, kernel, stride, pad)};
}

Value ModelBuilder::Normalise(const std::string& name, const Value& x) {
  const Shape channels = {x.shape[0]};
  AddConstant(name + ".weight", channels, 1.0f);
  AddConstant(name + ".bias", channels, 0.0f);
  AddConstant(name + ".running_mean", channels, 0.0f);
  AddConstant(name + ".running_var", channels, 1.0f);
  return {AddNode(name, "BatchNormalization",
                  {x.name, name + ".weight", name + ".bias", name + ".running_mean", name + ".running_var"})
              ->output(0),
          x.shape};
}

Value ModelBuilder::Relu(const std::string& name, const Value& x) {
  return {AddNode(name, "Relu", {x.name})->output(0), x.shape};
}

Value ModelBuilder::Add(const std::string& name, const Value& a, const Value& b) {
  return {AddNode(name, "Add", {a.name, b.name})->output(0), a.shape};
}

Value ModelBuilder::MaxPool(const std::string& name, const Value& x, int64_t kernel, int64_t stride, int64_t pad) {
  onnx::NodeProto* node = AddNode(name, "MaxPool", {x.name});
  SetWindow(node, kernel, stride, pad);
  return {node->output(0), Windowed(x.shape, x.shape[0], kernel, stride, pad)};
}

Value ModelBuilder::GlobalAveragePool(const std::string& name, const Value& x) {
  return {AddNode(name, "GlobalAveragePool", {x.name})->output(0), {x.shape[0], 1, 1}};
}

Value ModelBuilder::Flatten(const std::string& name, const Value& x) {
  absl::StatusOr<int64_t> features = ElementCount(x.shape);
  if (status_.ok() && !features.ok()) status_ = features.status();
  return {AddNode(name, "Flatten", {x.name})->output(0), {features.value_or(0)}};
}

Value ModelBuilder::Linear(const std::string& name, const Value& x, int64_t features, bool relu_follows) {
  const double gain = relu_follows ? 2.0 : 1.0;
  AddRandom(name + ".weight", {features, x.shape[0]}, gain / static_cast<double>(x.shape[0]));
  AddConstant(name + ".bias", {features}, 0.0f);
  onnx::NodeProto* node = AddNode(name, "Gemm", {x.name, name + ".weight", name + ".bias"});
  SetInt(node, "transB", 1);
  return {node->output(0), {features}};
}

absl::StatusOr<std::string> ModelBuilder::Finish(const Value& logits) {
  TANDEM_RETURN_IF_ERROR(status_);
  onnx::GraphProto* graph = model_.mutable_graph();
  graph->mutable_node(graph->node_size() - 1)->set_output(0, "logits");
  FillValueInfo(graph->add_output(), "logits", logits.shape);
  std::string bytes;
  if (!model_.SerializeToString(&bytes)) return Internal("the model cannot be written");
  return bytes;
}

}  // namespace tandem::graph
