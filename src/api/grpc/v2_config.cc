#include "api/grpc/v2_config.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"

namespace tandem::api::rpc {
namespace {

uint64_t Micros(double millis) { return static_cast<uint64_t>(millis * 1000); }

inference::DataType ConfigType(DType dtype) {
  inference::DataType type = inference::TYPE_INVALID;
  // The configuration's own names: TYPE_STRING for BYTES, else TYPE_ and the protocol's name.
  std::string name = dtype == DType::kString ? "TYPE_STRING" : StrCat("TYPE_", ProtocolName(dtype));
  inference::DataType_Parse(name, &type);
  return type;
}

// With batching the first dimension is the batch, which dims leave out.
template <typename Message>
void FillTensor(const TensorSignature& tensor, bool batching, Message* message) {
  message->set_name(tensor.name);
  message->set_data_type(ConfigType(tensor.dtype));
  const size_t first = batching && !tensor.shape.empty() ? 1 : 0;
  message->mutable_dims()->Add(tensor.shape.begin() + first, tensor.shape.end());
}

void FillVersionPolicy(std::string_view versions, inference::ModelVersionPolicy* policy) {
  constexpr std::string_view kLatest = "latest:";
  if (versions == "all") {
    policy->mutable_all();
  } else if (versions.empty() || versions.starts_with(kLatest)) {
    uint32_t count = 1;
    if (!versions.empty() && !absl::SimpleAtoi(AbslView(versions.substr(kLatest.size())), &count)) count = 1;
    policy->mutable_latest()->set_num_versions(count);
  } else {
    for (absl::string_view one : absl::StrSplit(AbslView(versions), ',')) {
      int64_t version;
      if (absl::SimpleAtoi(one, &version)) policy->mutable_specific()->add_versions(version);
    }
  }
}

void FillDynamicBatching(const spec::ModelConfig& config, inference::ModelDynamicBatching* batching) {
  batching->mutable_preferred_batch_size()->Add(config.preferred_batch_sizes.begin(),
                                                config.preferred_batch_sizes.end());
  batching->set_max_queue_delay_microseconds(Micros(config.max_queue_delay_ms));
  batching->set_priority_levels(config.priority_levels);
  batching->set_default_priority_level(config.default_priority);
  inference::ModelQueuePolicy* policy = batching->mutable_default_queue_policy();
  policy->set_timeout_action(inference::ModelQueuePolicy::REJECT);
  policy->set_default_timeout_microseconds(Micros(config.timeout_ms));
  policy->set_allow_timeout_override(true);
  policy->set_max_queue_size(config.queue_limit);
}

inference::ModelSequenceBatching::Control::Kind ControlKind(std::string_view kind) {
  using Control = inference::ModelSequenceBatching::Control;
  if (kind == "start") return Control::CONTROL_SEQUENCE_START;
  if (kind == "end") return Control::CONTROL_SEQUENCE_END;
  return kind == "ready" ? Control::CONTROL_SEQUENCE_READY : Control::CONTROL_SEQUENCE_CORRID;
}

void FillSequenceBatching(const spec::ModelConfig& config, inference::ModelSequenceBatching* batching) {
  const spec::SequenceConfig& sequence = config.sequence;
  batching->set_max_sequence_idle_microseconds(Micros(sequence.max_idle_s * 1000));
  for (const spec::SequenceConfig::Control& control : sequence.controls) {
    auto* input = batching->add_control_input();
    input->set_name(control.input);
    input->add_control()->set_kind(ControlKind(control.kind));
  }
  for (const spec::SequenceConfig::State& state : sequence.states) {
    auto* added = batching->add_state();
    added->set_input_name(state.input);
    added->set_output_name(state.output);
  }
  if (sequence.strategy != "oldest") {
    batching->mutable_direct()->set_max_queue_delay_microseconds(Micros(config.max_queue_delay_ms));
    return;
  }
  auto* oldest = batching->mutable_oldest();
  oldest->set_max_candidate_sequences(sequence.max_candidates);
  oldest->mutable_preferred_batch_size()->Add(config.preferred_batch_sizes.begin(), config.preferred_batch_sizes.end());
  oldest->set_max_queue_delay_microseconds(Micros(config.max_queue_delay_ms));
}

}  // namespace

void FillConfig(const InferSession& session, inference::ModelConfig* message) {
  const spec::ModelConfig& config = session.config();
  const std::string& platform = session.platform();
  const bool batching = config.max_batch_size > 0;
  message->set_name(session.model());
  message->set_platform(platform);
  message->set_backend(platform.substr(platform.find('_') + 1));
  FillVersionPolicy(config.versions, message->mutable_version_policy());
  message->set_max_batch_size(config.max_batch_size);
  for (const TensorSignature& tensor : session.inputs()) FillTensor(tensor, batching, message->add_input());
  for (const TensorSignature& tensor : session.outputs()) FillTensor(tensor, batching, message->add_output());
  if (!config.sequence.strategy.empty()) {
    FillSequenceBatching(config, message->mutable_sequence_batching());
  } else if (batching) {
    FillDynamicBatching(config, message->mutable_dynamic_batching());
  }
  auto* group = message->add_instance_group();
  group->set_name(session.model());
  group->set_kind(inference::ModelInstanceGroup::KIND_CPU);
  group->set_count(std::max(config.instances, 1));
  if (platform.starts_with("onnx")) message->set_default_model_filename("model.onnx");
  message->mutable_model_transaction_policy()->set_decoupled(false);
  message->mutable_response_cache()->set_enable(config.response_cache);
}

}  // namespace tandem::api::rpc
