#include "model.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "common/edge.h"
#include "openvino/core/model.hpp"
#include "openvino/runtime/auto/properties.hpp"
#include "openvino/runtime/properties.hpp"
#include "settings.h"

namespace tandem_openvino {
namespace {

constexpr const char* kBlob = "model.blob";
constexpr const char* kSignature = "signature";
// Of one call of the kernel when files are written: on kernels that are not preemptible a larger one would keep a CPU
// from the threads that answer requests, about 1 ms for each MB.
constexpr std::streamsize kPieceBytes = 64 << 10;
// Below this a copy is cheaper than telling OpenVINO a new address (about 2 us).
constexpr size_t kCopyBytes = 64 << 10;

const struct {
  ov::element::Type type;
  tandem_dtype dtype;
} kTypes[] = {{ov::element::f32, 1},  {ov::element::u8, 2},   {ov::element::i8, 3},   {ov::element::u16, 4},
              {ov::element::i16, 5},  {ov::element::i32, 6},  {ov::element::i64, 7},  {ov::element::boolean, 9},
              {ov::element::f16, 10}, {ov::element::f64, 11}, {ov::element::u32, 12}, {ov::element::u64, 13},
              {ov::element::bf16, 16}};

ov::element::Type ToElement(tandem_dtype dtype) {
  for (const auto& row : kTypes) {
    if (row.dtype == dtype) return row.type;
  }
  throw std::invalid_argument("data type number " + std::to_string(dtype) + " is not supported");
}

template <typename T>
void CheckRange(const tandem_input& input, const char* type, const char* name) {
  const T* values = static_cast<const T*>(input.data);
  const T* end = values + input.byte_size / sizeof(T);
  const auto fits = [](T value) { return std::in_range<int32_t>(value); };
  // Without a way out, so that the compiler makes vector code of it.
  bool all = true;
  for (const T* value = values; value != end; ++value) all &= fits(*value);
  if (all) return;
  const T* wrong = std::find_if_not(values, end, fits);
  throw std::invalid_argument(
      std::string("input '") + name + "' has " + std::to_string(*wrong) + " at index " +
      std::to_string(wrong - values) + ", which does not fit 32 bits: OpenVINO computes " + type +
      " in 32 bits; engine onnxruntime computes in 64 (engine: onnxruntime in the model's " + "configuration)");
}

// OpenVINO's CPU kernels compute whole numbers of 64 bits in 32, and would silently take the lower half.
void CheckRange(const tandem_input& input, const char* name) {
  constexpr tandem_dtype kInt64 = 7, kUint64 = 13;
  if (input.dtype == kInt64) CheckRange<int64_t>(input, "INT64", name);
  if (input.dtype == kUint64) CheckRange<uint64_t>(input, "UINT64", name);
}

// Names of one tensor may have been merged by OpenVINO; the file's own name is the node's friendly name.
std::string NameOf(const ov::Output<const ov::Node>& port, std::string_view kind, size_t index) {
  constexpr std::string_view kSuffix = "/sink_port_0";
  const std::unordered_set<std::string>& names = port.get_names();
  std::string friendly = port.get_node()->get_friendly_name();
  if (friendly.ends_with(kSuffix)) friendly.resize(friendly.size() - kSuffix.size());
  if (names.empty() || names.contains(friendly)) return friendly;
  std::string name = port.get_any_name();
  if (name.find('\n') == std::string::npos) return name;
  throw std::invalid_argument(std::string(kind) + " " + std::to_string(index) + " has a line break in its name");
}

void Describe(const std::vector<ov::Output<const ov::Node>>& ports, bool is_output, Signature* signature) {
  std::string_view kind = is_output ? "output" : "input";
  for (size_t i = 0; i < ports.size(); ++i) {
    std::string name = NameOf(ports[i], kind, i);
    auto refuse = [&](const std::string& why) {
      throw std::invalid_argument(std::string(kind).append(" '").append(name).append("' ").append(why));
    };
    tandem_signature tensor{};
    for (const auto& row : kTypes) {
      if (row.type == ports[i].get_element_type()) tensor.dtype = row.dtype;
    }
    if (tensor.dtype == 0) refuse("is of type " + ports[i].get_element_type().to_string() + ", which is not supported");
    const ov::PartialShape& shape = ports[i].get_partial_shape();
    if (shape.rank().is_dynamic()) refuse("has no fixed number of dimensions");
    if (shape.size() > TANDEM_ENGINE_MAX_RANK) refuse("has more than 8 dimensions");
    tensor.rank = static_cast<int32_t>(shape.size());
    for (size_t d = 0; d < shape.size(); ++d) tensor.shape[d] = shape[d].is_static() ? shape[d].get_length() : -1;
    signature->Add(is_output, name, tensor);
  }
}

// Writes in pieces whatever the size of what it is given.
class PieceBuffer : public std::filebuf {
 protected:
  std::streamsize xsputn(const char* data, std::streamsize size) override {
    std::streamsize done = 0, n = 1;
    while (done < size && n > 0) {
      n = std::filebuf::xsputn(data + done, std::min(kPieceBytes, size - done));
      done += n;
    }
    return done;
  }
};

void ExportModel(ov::CompiledModel& compiled, const std::filesystem::path& path) {
  PieceBuffer buffer;
  buffer.open(path, std::ios::out | std::ios::binary | std::ios::trunc);
  std::ostream blob(&buffer);
  compiled.export_model(blob);
  if (!buffer.is_open() || !blob.flush()) {
    throw std::runtime_error("cannot write '" + path.string() + "'; is the disk full?");
  }
}

// The extension that tells OpenVINO what a file is. It would else try all its formats, and read the file whole in one
// call. ONNX files begin with the number of their format, frozen TensorFlow graphs with their first node.
const char* ExtensionOf(const std::filesystem::path& path) {
  char begin[8] = {};
  std::ifstream(path, std::ios::binary).read(begin, sizeof(begin));
  if (std::string_view(begin + 4, 4) == "TFL3") return ".tflite";
  constexpr char kFirstMessage = 0x0a;
  return begin[0] == kFirstMessage ? ".pb" : ".onnx";
}

// A folder is a TensorFlow SavedModel. A file without an extension (an artifact) is read through a link that has one.
std::shared_ptr<const ov::Model> ReadModel(const std::filesystem::path& path, const std::filesystem::path& folder) {
  if (path.has_extension() || std::filesystem::is_directory(path)) return SharedCore().read_model(path.string());
  const std::filesystem::path link = folder / (std::string("model") + ExtensionOf(path));
  std::filesystem::create_symlink(std::filesystem::absolute(path), link);
  std::shared_ptr<const ov::Model> model = SharedCore().read_model(link.string());
  std::filesystem::remove(link);
  return model;
}

// AUTO has no blob of its own: what it chooses for this model, waiting for it, is what is prepared.
std::string Chosen(const std::shared_ptr<const ov::Model>& model, const std::string& device) {
  if (!device.starts_with("AUTO")) return device;
  const ov::CompiledModel probe =
      SharedCore().compile_model(model, device, ov::intel_auto::enable_startup_fallback(false));
  const std::vector<std::string> devices = probe.get_property(ov::execution_devices);
  return devices.empty() ? "CPU" : devices.front();
}

}  // namespace

void Prepare(const std::filesystem::path& model_path, const std::filesystem::path& folder,
             const tandem_option* options) {
  std::string device = Device(options);
  Config(options, "CPU");  // wrong options are said before the model is read
  std::shared_ptr<const ov::Model> model = ReadModel(model_path, folder);
  Signature signature;
  Describe(model->inputs(), false, &signature);
  Describe(model->outputs(), true, &signature);
  signature.device = Chosen(model, device);
  ov::CompiledModel compiled = SharedCore().compile_model(model, signature.device, Config(options, signature.device));
  ExportModel(compiled, folder / kBlob);
  ShapeCheck::Write(model, folder);
  WriteSignature(folder / kSignature, signature);
}

uint64_t EstimateBytes(const std::filesystem::path& folder) {
  // Measured: the mapped blob, about as much again for weights in the kernels' layout, and 2 MB.
  return 2 * std::filesystem::file_size(folder / kBlob) + (2 << 20);
}

}  // namespace tandem_openvino

using tandem_openvino::SharedCore;

tandem_model::tandem_model(const std::filesystem::path& folder, const tandem_option* options)
    : signature_(tandem_openvino::ReadSignature(folder / tandem_openvino::kSignature)),
      threads_(tandem_plugin::Threads(options)),
      config_(tandem_openvino::Config(options, signature_.device)) {
  const std::string device = tandem_openvino::Device(options);
  if (!device.starts_with("AUTO") && device != signature_.device) {
    throw std::invalid_argument("the model was prepared for device " + signature_.device + ", not " + device +
                                "; prepare it again");
  }
  std::filesystem::path path = folder / tandem_openvino::kBlob;
  blob_size_ = std::filesystem::file_size(path);
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  void* memory = fd < 0 ? MAP_FAILED : mmap(nullptr, blob_size_, PROT_READ, MAP_PRIVATE, fd, 0);
  if (fd >= 0) close(fd);
  if (memory == MAP_FAILED) throw std::runtime_error("cannot map '" + path.string() + "': " + std::strerror(errno));
  blob_ = memory;
  try {
    shape_check_ = tandem_openvino::ShapeCheck::Read(folder);
    first_ = Import();
  } catch (...) {
    munmap(blob_, blob_size_);
    throw;
  }
  if (first_->inputs().size() != signature_.inputs.size() || first_->outputs().size() != signature_.outputs.size()) {
    first_.reset();
    munmap(blob_, blob_size_);
    throw std::runtime_error("'" + folder.string() + "' holds a blob of another model; prepare it again");
  }
}

tandem_model::~tandem_model() {
  first_.reset();
  munmap(blob_, blob_size_);
}

ov::CompiledModel tandem_model::Import() const {
  const ov::Tensor blob(ov::element::u8, {blob_size_}, blob_);
  // Kernels are laid out for as many threads as there are here.
  tbb::task_arena arena(threads_);
  return arena.execute([&] { return SharedCore().import_model(blob, signature_.device, config_); });
}

ov::CompiledModel tandem_model::TakeCompiled() {
  if (!first_) return Import();
  ov::CompiledModel compiled = *first_;
  first_.reset();
  return compiled;
}

tandem_instance::tandem_instance(tandem_model* model)
    : shape_check_(model->MakeShapeCheck()),
      signature_(model->signature()),
      arena_(model->threads()),
      compiled_(model->TakeCompiled()),
      request_(compiled_.create_infer_request()),
      has_free_sizes_(tandem_plugin::HasFreeSizes(signature_.inputs)) {
  for (size_t i = 0; i < signature_.inputs.size(); ++i) own_inputs_.push_back(request_.get_input_tensor(i));
  uses_own_.assign(own_inputs_.size(), true);
}

void tandem_instance::CheckShapes(const tandem_request& request) {
  std::vector<ov::Shape> shapes;
  for (int32_t i = 0; i < request.input_count; ++i) {
    const tandem_input& input = request.inputs[i];
    shapes.emplace_back(input.shape, input.shape + input.rank);
  }
  if (shapes == checked_) return;
  shape_check_->Check(shapes);
  checked_ = std::move(shapes);
}

void tandem_instance::SetInput(size_t index, const tandem_input& input) {
  ov::Shape shape(input.shape, input.shape + input.rank);
  bool own = input.byte_size <= tandem_openvino::kCopyBytes;
  if (own) {
    ov::Tensor& tensor = own_inputs_[index];
    if (tensor.get_shape() != shape) tensor.set_shape(shape);
    if (input.byte_size > 0) std::memcpy(tensor.data(), input.data, input.byte_size);
    if (!uses_own_[index]) request_.set_input_tensor(index, tensor);
  } else {
    // OpenVINO only reads its inputs.
    request_.set_input_tensor(
        index, ov::Tensor(tandem_openvino::ToElement(input.dtype), shape, const_cast<void*>(input.data)));
  }
  uses_own_[index] = own;
}

void tandem_instance::Run(tandem_request* request) {
  if (shape_check_ != nullptr) CheckShapes(*request);
  for (int32_t i = 0; i < request->input_count; ++i) {
    tandem_openvino::CheckRange(request->inputs[i], signature_.inputs[static_cast<size_t>(i)].name);
    SetInput(i, request->inputs[i]);
  }
  arena_.execute([this] { request_.infer(); });
  for (size_t i = 0; i < signature_.outputs.size(); ++i) {
    ov::Tensor tensor = request_.get_output_tensor(i);
    const ov::Shape& dims = tensor.get_shape();
    int64_t shape[TANDEM_ENGINE_MAX_RANK];
    if (dims.size() > TANDEM_ENGINE_MAX_RANK) throw std::runtime_error("an output has more than 8 dimensions");
    std::copy(dims.begin(), dims.end(), shape);
    size_t bytes = tensor.get_byte_size();
    void* out = request->output.allocate(request->output.context, static_cast<int32_t>(i), signature_.outputs[i].dtype,
                                         static_cast<int32_t>(dims.size()), shape, bytes);
    if (out == nullptr) throw std::bad_alloc();
    if (bytes > 0) std::memcpy(out, tensor.data(), bytes);
  }
}
