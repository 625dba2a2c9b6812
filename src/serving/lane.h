#pragma once
// One instance of a model with the memory that batches are put together in.
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serving/batch.h"
#include "serving/request_queue.h"
#include "serving/sequences.h"
#include "serving/version_metrics.h"

namespace tandem::serving {

// What all lanes of a version share; outlives them.
struct LaneContext {
  std::string what;  // "model 'x' version 3", for messages
  BatchRules rules;
  const engine::LoadedModel* model;
  std::optional<SequenceLayout> sequences;
  Clock* clock;
  VersionMetrics* metrics;  // null = nothing is counted
};

// Thread-compatible: whoever holds its number of the pool uses it.
class Lane {
 public:
  Lane(const LaneContext* context, std::unique_ptr<engine::Instance> instance)
      : context_(*context), instance_(std::move(instance)) {}

  // Sets status, outputs and compute_ns of each. A request alone runs on its own memory, with nothing copied. When a
  // merged run fails, each request runs again alone, so that one that is bad fails alone. REQUIRES: the inputs were
  // checked and are in the model's order. `start` is now; gives when the engine was done.
  int64_t Run(const std::vector<Request*>& requests, int64_t start);

  // A run on zeros, as engine::WarmUp; where requests are merged, on the memory that batches are put together in.
  absl::Status WarmUp(int64_t rows, int64_t max_bytes);
  // From now on requests run on it.
  void StartRequests() { instance_->StartRequests(); }

  std::vector<Request*> batch;      // kept for its memory
  std::atomic<int64_t> used_ns{0};  // when it last ran

 private:
  struct Times {
    int64_t input_ns = 0, infer_ns = 0, output_ns = 0;
  };
  absl::Status RunGroup(Request* const* requests, size_t count, int64_t start, Times* times);
  absl::Status RunAlone(Request* request, int64_t rows, int64_t start, Times* times);
  absl::Status RunMerged(Request* const* requests, size_t count, int64_t rows, int64_t padded, int64_t start,
                         Times* times);
  void Join(Request* const* requests, size_t count, int64_t rows, int64_t padded);
  absl::Status HandOut(Request* const* requests, size_t count, int64_t padded);
  absl::Status CheckRows(const std::vector<Tensor>& outputs, int64_t rows);

  const LaneContext& context_;
  const std::unique_ptr<engine::Instance> instance_;
  bool cannot_merge_ = false;  // the last run showed that the model's outputs have no rows
  std::vector<engine::InputView> views_;
  std::vector<AlignedBuffer> inputs_;
  std::vector<Tensor> outputs_;
  std::vector<Piece> pieces_;
  std::vector<std::string> controls_;
};

}  // namespace tandem::serving
