#include "serving/request_queue.h"

#include <algorithm>

#include "serving/version_metrics.h"

namespace tandem::serving {
namespace {

bool IsCancelled(const Request& request) {
  return request.cancelled != nullptr && request.cancelled->load(std::memory_order_relaxed);
}

bool SameButRows(const Request& a, const Request& b) {
  for (size_t i = 0; i < a.inputs.size(); ++i) {
    const Shape& left = a.inputs[i].view.shape;
    const Shape& right = b.inputs[i].view.shape;
    if (left.size() != right.size()) return false;
    if (!left.empty() && !std::equal(left.begin() + 1, left.end(), right.begin() + 1)) return false;
  }
  return true;
}

void Chain(Request* request, Decision why, Request** dropped) {
  request->waiting.why_dropped = static_cast<int>(why);
  request->waiting.after = *dropped;
  *dropped = request;
}

}  // namespace

BatchRules::BatchRules(const spec::ModelConfig& config)
    : max_rows(config.max_batch_size),
      delay_ns(config.max_batch_size > 0 ? static_cast<int64_t>(config.max_queue_delay_ms * 1e6) : 0),
      pad(config.pad && config.max_batch_size > 0) {
  for (int size : config.preferred_batch_sizes) {
    if (size > 0 && size <= max_rows) sizes.push_back(size);
  }
  std::sort(sizes.begin(), sizes.end());
}

int64_t BatchRules::PaddedRows(int64_t rows) const {
  if (!pad) return rows;
  auto size = std::lower_bound(sizes.begin(), sizes.end(), rows);
  return size == sizes.end() ? rows : *size;
}

bool BatchRules::IsPreferred(int64_t rows) const { return std::binary_search(sizes.begin(), sizes.end(), rows); }

bool IsBefore(const Request& a, const Request& b) {
  if (a.waiting.rank != b.waiting.rank) return a.waiting.rank < b.waiting.rank;
  if (a.waiting.order_ns != b.waiting.order_ns) return a.waiting.order_ns < b.waiting.order_ns;
  return a.waiting.arrival_ns < b.waiting.arrival_ns;
}

uint64_t ShapeKey(const Request& request) {
  uint64_t key = 14695981039346656037u;  // FNV-1a, a number at a time
  auto mix = [&](uint64_t value) { key = (key ^ value) * 1099511628211u; };
  for (const Request::Input& input : request.inputs) {
    mix(input.view.shape.size());
    for (size_t i = 1; i < input.view.shape.size(); ++i) mix(static_cast<uint64_t>(input.view.shape[i]));
  }
  return key;
}

RequestQueue::Group* RequestQueue::GroupOf(const Request& request) {
  const bool held = request.waiting.held;
  for (Group& group : groups_) {
    if (group.held != held) continue;
    if (held || (group.key == request.waiting.shape_key && (!rules_.merges() || SameButRows(*group.first, request)))) {
      return &group;
    }
  }
  Group& made = groups_.emplace_back();
  made.key = request.waiting.shape_key;
  made.held = held;
  made.ripe_ns = INT64_MAX;
  return &made;
}

void RequestQueue::Add(Request* request) {
  Group* group = GroupOf(*request);
  Request* at = group->last;  // goes behind this one
  // Held requests stay in the order of arrival: their sequence says what comes next.
  while (!group->held && at != nullptr && IsBefore(*request, *at)) at = at->waiting.before;
  request->waiting.before = at;
  request->waiting.after = at == nullptr ? group->first : at->waiting.after;
  (at == nullptr ? group->first : at->waiting.after) = request;
  (request->waiting.after == nullptr ? group->last : request->waiting.after->waiting.before) = request;
  ++group->count;
  group->rows += request->rows;
  group->ripe_ns = std::min(group->ripe_ns, request->waiting.ripe_ns);
  ++size_;
  bytes_ += request->waiting.byte_size;
  next_expiry_ = std::min(next_expiry_, request->waiting.expires_ns);
}

void RequestQueue::Unlink(Group* group, Request* request) {
  Request* before = request->waiting.before;
  Request* after = request->waiting.after;
  (before == nullptr ? group->first : before->waiting.after) = after;
  (after == nullptr ? group->last : after->waiting.before) = before;
  request->waiting.before = request->waiting.after = nullptr;
  --group->count;
  group->rows -= request->rows;
  --size_;
  bytes_ -= request->waiting.byte_size;
}

// After requests were taken out of a group: it is gone if it is empty.
void RequestQueue::Settle(Group* group) {
  if (group->count == 0) {
    *group = groups_.back();
    groups_.pop_back();
    if (size_ == 0) next_expiry_ = INT64_MAX;
    return;
  }
  if (rules_.delay_ns == 0) return;  // all are ripe since they came
  group->ripe_ns = INT64_MAX;
  for (const Request* at = group->first; at != nullptr; at = at->waiting.after) {
    group->ripe_ns = std::min(group->ripe_ns, at->waiting.ripe_ns);
  }
}

void RequestQueue::Remove(Request* request) {
  Group* group = GroupOf(*request);
  Unlink(group, request);
  Settle(group);
}

void RequestQueue::Release(Request* request) {
  Remove(request);
  request->waiting.held = false;
  Add(request);
}

Request* RequestQueue::FirstHeld(const OpenSequence* sequence) const {
  for (const Group& group : groups_) {
    if (!group.held) continue;
    for (Request* at = group.first; at != nullptr; at = at->waiting.after) {
      if (at->waiting.sequence == sequence) return at;
    }
  }
  return nullptr;
}

Request* RequestQueue::Last() const {
  Request* last = nullptr;
  for (const Group& group : groups_) {
    if (group.held) {
      for (Request* at = group.first; at != nullptr; at = at->waiting.after) {
        if (last == nullptr || IsBefore(*last, *at)) last = at;
      }
    } else if (last == nullptr || IsBefore(*last, *group.last)) {
      last = group.last;
    }
  }
  return last;
}

void RequestQueue::CountBehind(uint32_t rank, int* count, size_t* bytes) const {
  *count = 0;
  *bytes = 0;
  for (const Group& group : groups_) {
    for (const Request* at = group.last; at != nullptr; at = at->waiting.before) {
      if (at->waiting.rank <= rank) {
        if (!group.held) break;
        continue;
      }
      ++*count;
      *bytes += at->waiting.byte_size;
    }
  }
}

int64_t RequestQueue::RowsBefore(const Request& request) const {
  int64_t rows = 0;
  for (const Group& group : groups_) {
    int64_t behind = 0;
    for (const Request* at = group.last; at != nullptr && IsBefore(request, *at); at = at->waiting.before) {
      behind += rules_.merges() ? at->rows : 1;
    }
    rows += (rules_.merges() ? group.rows : group.count) - behind;
  }
  return rows;
}

bool RequestQueue::IsDue(const Group& group, int64_t now) const {
  if (group.held) return false;
  return rules_.delay_ns == 0 || group.rows >= rules_.FullRows() || now >= group.ripe_ns;
}

const RequestQueue::Group* RequestQueue::MostUrgent(int64_t now) const {
  const Group* best = nullptr;
  for (const Group& group : groups_) {
    if (IsDue(group, now) && (best == nullptr || IsBefore(*group.first, *best->first))) best = &group;
  }
  return best;
}

const Request* RequestQueue::FirstDue(int64_t now) const {
  const Group* group = MostUrgent(now);
  return group == nullptr ? nullptr : group->first;
}

int RequestQueue::CountDue(int64_t now, int most) const {
  int64_t due = 0;
  for (const Group& group : groups_) {
    if (due >= most) break;
    if (!IsDue(group, now)) continue;
    due += rules_.merges() ? std::max<int64_t>(1, group.rows / rules_.FullRows()) : group.count;
  }
  return static_cast<int>(std::min<int64_t>(due, most));
}

int64_t RequestQueue::NextDue() const {
  int64_t next = INT64_MAX;
  for (const Group& group : groups_) {
    if (!group.held) next = std::min(next, group.ripe_ns);
  }
  return next;
}

int RequestQueue::CountBatch(const Group& group) const {
  if (!rules_.merges()) return 1;
  int count = 0, preferred = 0;
  int64_t rows = 0;
  for (const Request* at = group.first; at != nullptr; at = at->waiting.after) {
    if (count > 0 && rows + at->rows > rules_.max_rows) break;
    // Beyond the largest preferred size nothing can be padded to.
    if (rules_.pad && count > 0 && rows + at->rows > rules_.FullRows()) break;
    rows += at->rows;
    ++count;
    if (rules_.IsPreferred(rows)) preferred = count;
    if (rows == rules_.FullRows()) break;
  }
  return rules_.pad || preferred == 0 ? count : preferred;
}

void RequestQueue::TakeBatch(int64_t now, std::vector<Request*>* batch, Request** dropped) {
  batch->clear();
  auto* group = const_cast<Group*>(MostUrgent(now));
  if (group == nullptr) return;
  for (Request* at = group->first; at != nullptr;) {
    Request* next = at->waiting.after;
    if (IsCancelled(*at)) {
      Unlink(group, at);
      Chain(at, Decision::kCancelled, dropped);
    } else if (!rules_.merges()) {
      break;  // what lies further behind is found when its turn comes
    }
    at = next;
  }
  for (int left = group->count == 0 ? 0 : CountBatch(*group); left > 0; --left) {
    batch->push_back(group->first);
    Unlink(group, group->first);
  }
  Settle(group);
}

void RequestQueue::TakeDead(int64_t now, Request** dropped) {
  next_expiry_ = INT64_MAX;
  for (size_t i = groups_.size(); i-- > 0;) {
    Group* group = &groups_[i];
    for (Request* at = group->first; at != nullptr;) {
      Request* next = at->waiting.after;
      bool expired = at->waiting.expires_ns <= now;
      if (expired || IsCancelled(*at)) {
        Unlink(group, at);
        Chain(at, expired ? Decision::kExpired : Decision::kCancelled, dropped);
      } else {
        next_expiry_ = std::min(next_expiry_, at->waiting.expires_ns);
      }
      at = next;
    }
    Settle(group);
  }
}

}  // namespace tandem::serving
