#pragma once
// Requests that belong together: their order, what the model is told about it, and the state that goes from one to the
// next.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "serving/serving.h"

namespace tandem::serving {

// A sequence that began and has not ended. `states` belong to the run of the request whose turn it is; all else is
// guarded by the executor's mutex.
struct OpenSequence {
  std::string key;
  uint64_t number = 0;  // that no other has
  bool taken = false;   // one of its requests is queued or running; later ones are held
  bool broken = false;  // its start was not run: nothing goes on until another start
  int64_t used_ns = 0;  // when its last request came or ended
  std::vector<Tensor> states;
};

// Which inputs and outputs of a model are the client's, and which are serving's.
struct SequenceLayout {
  enum class Source { kClient, kStart, kEnd, kReady, kId, kState };
  struct Input {
    Source source = Source::kClient;
    int index = 0;  // among the client's inputs, or among the states
    Shape shape;    // for one request, of all but the client's
  };

  // InvalidArgument names the input or output that the configuration and the model do not agree on.
  static absl::StatusOr<SequenceLayout> Create(std::string_view what, const spec::ModelConfig& config,
                                               const std::vector<TensorSignature>& inputs,
                                               const std::vector<TensorSignature>& outputs);

  std::vector<Input> inputs;  // a row for each input of the model
  std::vector<int> state_of;  // for each output of the model; -1 = the client's
  std::vector<TensorSignature> client_inputs, client_outputs;
  std::vector<TensorSignature> states;  // as the model takes them
  bool id_is_text = false, id_is_number = false;
  bool merges = false;  // requests of different sequences may share a batch
};

// The value of a control input for this request, in the form of the input's type: at most 8 bytes, or the id's text.
std::string ControlValue(SequenceLayout::Source source, DType dtype, const Request& request);
// Zeros, as a sequence begins. States without a fixed size begin with 1 in each unknown dimension.
void ClearStates(const SequenceLayout& layout, OpenSequence* sequence);

// The open sequences of one version. Not thread-safe: the executor's mutex guards it.
class Sequences {
 public:
  Sequences(std::string what, const spec::SequenceConfig& config)
      : what_(std::move(what)),
        most_(config.max_candidates),
        max_idle_ns_(static_cast<int64_t>(config.max_idle_s * 1e9)) {}

  // The sequence of a request; opened if it starts it. InvalidArgument without an id, and for one that never started or
  // was silent for too long; Unavailable when too many are open.
  absl::StatusOr<OpenSequence*> Find(const Request& request, int64_t now);
  // Whether `asked`, which is no start, goes on with one that is open.
  bool Has(const Request::Sequence& asked, int64_t now) const;
  // Forgets those that were silent for too long; whether there are others.
  bool AnyOpen(int64_t now);
  // REQUIRES: none of its requests is queued, held or running.
  void Close(OpenSequence* sequence) { open_.erase(sequence->key); }
  int size() const { return static_cast<int>(open_.size()); }

 private:
  bool IsIdle(const OpenSequence& sequence, int64_t now) const {
    return !sequence.taken && now - sequence.used_ns > max_idle_ns_;
  }

  const std::string what_;
  const int most_;
  const int64_t max_idle_ns_;
  uint64_t last_number_ = 0;
  std::unordered_map<std::string, std::unique_ptr<OpenSequence>> open_;
};

}  // namespace tandem::serving
