#pragma once
// The waiting requests of one version, ordered by who needs the engine most, and grouped by what can be merged.
#include <cstdint>
#include <vector>

#include "serving/serving.h"
#include "spec/model_config.h"

namespace tandem::serving {

// How requests become batches. Rows are the first dimension of the inputs.
struct BatchRules {
  explicit BatchRules(const spec::ModelConfig& config);

  bool merges() const { return max_rows > 0; }
  // Rows that a batch need not grow beyond. 1 for a model that does not merge.
  int64_t FullRows() const { return !merges() ? 1 : sizes.empty() ? max_rows : sizes.back(); }
  // What `rows` become by padding.
  int64_t PaddedRows(int64_t rows) const;
  bool IsPreferred(int64_t rows) const;

  int64_t max_rows;            // 0 = requests are not merged
  std::vector<int64_t> sizes;  // preferred, ascending, at most max_rows
  int64_t delay_ns;
  bool pad;
};

// The more urgent of two requests: by rank, then by order_ns, then the one that came first.
bool IsBefore(const Request& a, const Request& b);

// Holds no request's memory: they are linked by their member `waiting`. Not thread-safe: the executor's mutex guards
// it. Adding is O(1) when the request is the least urgent of its group (the common case), else O(requests behind it).
class RequestQueue {
 public:
  explicit RequestQueue(BatchRules rules) : rules_(std::move(rules)) {}

  // REQUIRES: all of `waiting` but the links is set; the inputs are in the model's order.
  void Add(Request* request);
  void Remove(Request* request);
  // Requests with `held` set are kept apart and never due; this makes one like the others. The first held request of
  // the sequence, or null.
  void Release(Request* request);
  Request* FirstHeld(const OpenSequence* sequence) const;

  int size() const { return size_; }
  size_t bytes() const { return bytes_; }
  // The least urgent; null if empty.
  Request* Last() const;
  // How many, and of how many bytes, are of a larger rank.
  void CountBehind(uint32_t rank, int* count, size_t* bytes) const;
  // Rows of the requests that would run before this one.
  int64_t RowsBefore(const Request& request) const;

  // The most urgent request of a group of which a batch should run now; null = nothing is due.
  const Request* FirstDue(int64_t now) const;
  // Batches that should run now; counts no further than `most`.
  int CountDue(int64_t now, int most) const;
  // When the next group will be due; kNever.
  int64_t NextDue() const;
  // No request expires before.
  int64_t next_expiry() const { return next_expiry_; }

  // Takes the batch that FirstDue began. Cancelled requests that it meets are chained to *dropped (by `after`).
  void TakeBatch(int64_t now, std::vector<Request*>* batch, Request** dropped);
  // Takes what expired or was cancelled.
  void TakeDead(int64_t now, Request** dropped);

 private:
  struct Group {  // requests of one shape; or those that are held
    uint64_t key = 0;
    bool held = false;
    Request* first = nullptr;
    Request* last = nullptr;
    int count = 0;
    int64_t rows = 0;
    int64_t ripe_ns = 0;  // a batch is due from then on, even if it is not full
  };
  Group* GroupOf(const Request& request);
  bool IsDue(const Group& group, int64_t now) const;
  const Group* MostUrgent(int64_t now) const;
  // How many requests of the group, from its first on, make the best batch.
  int CountBatch(const Group& group) const;
  // Takes it out of the group, which may be gone after that.
  void Unlink(Group* group, Request* request);
  void Settle(Group* group);

  const BatchRules rules_;
  std::vector<Group> groups_;  // none is empty
  int size_ = 0;
  size_t bytes_ = 0;
  int64_t next_expiry_ = INT64_MAX;
};

// A number that is the same for requests whose inputs differ at most in their first dimension.
uint64_t ShapeKey(const Request& request);

}  // namespace tandem::serving
