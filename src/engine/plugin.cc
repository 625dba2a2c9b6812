#include "engine/plugin.h"

#include <dlfcn.h>

#include <utility>

#include "base/status.h"
#include "tandem/engine.h"

namespace tandem::engine {
namespace {

using Entry = const tandem_engine_api* (*)(uint32_t);

// Calls into a plug-in: the one place where its codes, texts and (forbidden) exceptions become a Status.
template <typename Body>
absl::Status Call(const tandem_engine_api& api, std::string_view what, Body&& body) {
  return CatchToStatus(StrCat("engine '", api.name(), "': ", what), [&]() -> absl::Status {
    tandem_code code = body();
    if (code == TANDEM_OK) return absl::OkStatus();
    bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
    const char* text = api.last_error();
    std::string_view reason = text != nullptr && *text != 0 ? text : "no reason given";
    return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kInternal,
                        StrCat("engine '", api.name(), "': ", what, ": ", reason));
  });
}

// Receives what one run writes. REQUIRES: outputs->size() is the number of the model's outputs.
struct OutputSink {
  std::vector<Tensor>* outputs;
  uint64_t allocated = 0;  // how many calls

  static void* Allocate(void* context, int32_t index, tandem_dtype dtype, int32_t rank, const int64_t* shape,
                        size_t byte_size) {
    auto* sink = static_cast<OutputSink*>(context);
    if (index < 0 || static_cast<size_t>(index) >= sink->outputs->size()) return nullptr;
    if (rank < 0 || rank > TANDEM_ENGINE_MAX_RANK) return nullptr;
    Tensor& tensor = (*sink->outputs)[index];
    try {
      tensor.buffer.Resize(byte_size);
      tensor.shape.assign(shape, shape + rank);
    } catch (const std::exception&) {
      return nullptr;
    }
    tensor.dtype = static_cast<DType>(dtype);
    ++sink->allocated;
    return tensor.buffer.data();
  }
};

class PluginInstance : public Instance {
 public:
  PluginInstance(const tandem_engine_api& api, const std::vector<TensorSignature>& inputs,
                 const std::vector<TensorSignature>& outputs, tandem_instance* instance)
      : api_(api), inputs_(inputs), outputs_(outputs), instance_(instance), views_(inputs.size()) {}
  ~PluginInstance() override { api_.free_instance(instance_); }

  absl::Status Run(const std::vector<InputView>& inputs, std::vector<Tensor>* outputs) override {
    TANDEM_RETURN_IF_ERROR(SetViews(inputs));
    PrepareOutputs(outputs);
    OutputSink sink{outputs};
    tandem_request request{views_.data(), static_cast<int32_t>(views_.size()), {&sink, &OutputSink::Allocate}, 0};
    tandem_code code = TANDEM_INTERNAL;
    try {
      code = api_.run(instance_, &request, 1);
    } catch (...) {
      return Internal("engine '", api_.name(), "': run threw an exception, which the interface forbids");
    }
    if (code != TANDEM_OK || request.code != TANDEM_OK) {
      return Call(api_, "run", [&] { return code != TANDEM_OK ? code : request.code; });
    }
    if (sink.allocated == outputs_.size()) return absl::OkStatus();
    return Internal("engine '", api_.name(), "': run made ", sink.allocated, " outputs of ", outputs_.size());
  }

 private:
  absl::Status SetViews(const std::vector<InputView>& inputs) {
    if (inputs.size() != inputs_.size()) {
      return InvalidArgument("got ", inputs.size(), " inputs, the model takes ", inputs_.size());
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      const InputView& from = inputs[i];
      if (from.shape.size() > TANDEM_ENGINE_MAX_RANK) {
        return InvalidArgument("input '", inputs_[i].name, "' has ", from.shape.size(), " dimensions, at most 8 work");
      }
      views_[i] = {from.data, from.byte_size, static_cast<tandem_dtype>(from.dtype),
                   static_cast<int32_t>(from.shape.size())};
      std::copy(from.shape.begin(), from.shape.end(), views_[i].shape);
    }
    return absl::OkStatus();
  }

  void PrepareOutputs(std::vector<Tensor>* outputs) const {
    outputs->resize(outputs_.size());
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if ((*outputs)[i].name != outputs_[i].name) (*outputs)[i].name = outputs_[i].name;
    }
  }

  const tandem_engine_api& api_;
  const std::vector<TensorSignature>& inputs_;
  const std::vector<TensorSignature>& outputs_;
  tandem_instance* instance_;
  std::vector<tandem_input> views_;
};

class PluginModel : public LoadedModel {
 public:
  PluginModel(const tandem_engine_api& api, tandem_model* model) : api_(api), model_(model) {}
  ~PluginModel() override { api_.unload(model_); }

  absl::Status ReadSignature() {
    TANDEM_RETURN_IF_ERROR(ReadTensors(0, &inputs_));
    return ReadTensors(1, &outputs_);
  }
  const std::vector<TensorSignature>& inputs() const override { return inputs_; }
  const std::vector<TensorSignature>& outputs() const override { return outputs_; }

  absl::StatusOr<std::unique_ptr<Instance>> MakeInstance() override {
    tandem_instance* instance = nullptr;
    TANDEM_RETURN_IF_ERROR(Call(api_, "make_instance", [&] { return api_.make_instance(model_, &instance); }));
    return std::make_unique<PluginInstance>(api_, inputs_, outputs_, instance);
  }

 private:
  absl::Status ReadTensors(int32_t is_output, std::vector<TensorSignature>* tensors) {
    for (int32_t index = 0;; ++index) {
      tandem_signature from{};
      tandem_code code = api_.signature(model_, is_output, index, &from);
      if (code == TANDEM_NOT_FOUND) return absl::OkStatus();
      TANDEM_RETURN_IF_ERROR(Call(api_, "signature", [&] { return code; }));
      if (from.name == nullptr || from.rank < 0 || from.rank > TANDEM_ENGINE_MAX_RANK) {
        return Internal("engine '", api_.name(), "': ", is_output ? "output " : "input ", index, " has no name or ",
                        "an impossible rank (", from.rank, ")");
      }
      tensors->push_back({from.name, static_cast<DType>(from.dtype), Shape(from.shape, from.shape + from.rank)});
    }
  }

  const tandem_engine_api& api_;
  tandem_model* model_;
  std::vector<TensorSignature> inputs_, outputs_;
};

class PluginEngine : public Engine {
 public:
  explicit PluginEngine(const tandem_engine_api& api) : api_(api), name_(api.name()), version_(api.version()) {}
  const std::string& name() const override { return name_; }
  const std::string& version() const override { return version_; }

  absl::Status Prepare(const std::filesystem::path& model, const std::filesystem::path& folder,
                       const Options& options) override {
    return Call(api_, "prepare", [&] { return api_.prepare(model.c_str(), folder.c_str(), Pairs(options).list); });
  }

  absl::StatusOr<uint64_t> Estimate(const std::filesystem::path& folder) override {
    uint64_t bytes = 0;
    TANDEM_RETURN_IF_ERROR(Call(api_, "estimate", [&] { return api_.estimate(folder.c_str(), &bytes); }));
    return bytes;
  }

  absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const std::filesystem::path& folder,
                                                    const Options& options) override {
    tandem_model* raw = nullptr;
    TANDEM_RETURN_IF_ERROR(Call(api_, "load", [&] { return api_.load(folder.c_str(), Pairs(options).list, &raw); }));
    auto model = std::make_unique<PluginModel>(api_, raw);
    TANDEM_RETURN_IF_ERROR(model->ReadSignature());
    return model;
  }

 private:
  struct Pairs {
    explicit Pairs(const Options& options)
        : threads(StrCat(options.threads)),
          list{{"precision", options.precision.c_str()},
               {"device", options.device.c_str()},
               {"threads", threads.c_str()},
               {nullptr, nullptr}} {}
    const std::string threads;
    tandem_option list[4];
  };

  const tandem_engine_api& api_;
  const std::string name_, version_;
};

bool IsComplete(const tandem_engine_api& api) {
  return api.name && api.version && api.prepare && api.estimate && api.load && api.unload && api.signature &&
         api.make_instance && api.free_instance && api.run && api.last_error;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> OpenPlugin(const std::filesystem::path& file, std::string_view name) {
  auto refuse = [&](const auto&... why) {
    return FailedPrecondition("engine '", name, "': '", file.string(), "' ", why...);
  };
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return refuse("cannot be loaded: ", dlerror());
  auto close_and = [&](absl::Status status) {
    dlclose(library);
    return status;
  };
  auto entry = reinterpret_cast<Entry>(dlsym(library, "tandem_engine_entry"));
  if (entry == nullptr) return close_and(refuse("is no engine plug-in: it has no function tandem_engine_entry"));
  const tandem_engine_api* api = entry(TANDEM_ENGINE_ABI);
  if (api == nullptr) {
    return close_and(refuse("does not speak version ", TANDEM_ENGINE_ABI,
                            " of the plug-in interface; build it against include/tandem/engine.h of this tandem"));
  }
  if (api->abi != TANDEM_ENGINE_ABI) {
    return close_and(refuse("speaks version ", api->abi, " of the plug-in interface, this tandem speaks version ",
                            TANDEM_ENGINE_ABI));
  }
  if (!IsComplete(*api)) return close_and(refuse("gives a table in which a function is missing"));
  if (api->name() != name) return close_and(refuse("calls itself '", api->name(), "'; name and file must agree"));
  return std::make_unique<PluginEngine>(*api);
}

}  // namespace tandem::engine
