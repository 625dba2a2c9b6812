#include "serving/lazy.h"

#include <algorithm>

#include "base/status.h"
#include "base/text.h"

namespace tandem::serving {
namespace {

constexpr int64_t kLookNanos = 200'000'000;  // between two looks for requests whose client has gone
constexpr std::string_view kTryAgain = "; try again in a moment";

std::string Name(std::string_view model, int32_t version) { return StrCat("model '", model, "' version ", version); }

// Holds the loaded version until the request is finished: its owner holds no more than the parking handle.
class Holder : public Request::Owner {
 public:
  static void Submit(Request* request, ModelHandle handle, int64_t parked_ns) {
    auto* holder = new Holder(request->owner, std::move(handle), parked_ns);
    request->owner = holder;
    holder->handle_->Submit(request);
  }
  void Finished(Request* request) override {
    std::unique_ptr<Holder> self(this);
    request->owner = owner_;
    // Who was not run has its reason by what the version wrote.
    if (request->status.ok() || request->queue_ns > 0) request->queue_ns += parked_ns_;
    owner_->Finished(request);
  }

 private:
  Holder(Request::Owner* owner, ModelHandle handle, int64_t parked_ns)
      : owner_(owner), handle_(std::move(handle)), parked_ns_(parked_ns) {}
  Request::Owner* const owner_;
  const ModelHandle handle_;
  const int64_t parked_ns_;
};

}  // namespace

void ParkingLot::Park(Request* request, const std::string& model, int32_t version, const spec::ModelConfig& config,
                      const std::shared_ptr<LazyState>& state) {
  int64_t bytes = 0;
  for (const Request::Input& input : request->inputs) bytes += static_cast<int64_t>(input.view.byte_size);
  if (!Reserve(config, bytes, state.get())) {
    request->status = Unavailable(Name(model, version), " is being loaded and its queue is full (",
                                  state->parked.load(), " waiting)", kTryAgain);
    request->queue_ns = 1;  // counted as rejected
    return request->owner->Finished(request);
  }
  const int64_t now = clock_->MonotonicNanos();
  const double wait_s = config.timeout_ms > 0 ? config.timeout_ms / 1e3 : max_wait_s_;
  Parked parked{.request = request, .model = model, .version = version, .state = state};
  parked.loads = look_up_(model, version).loads;
  parked.began_nanos = now;
  parked.bytes = bytes;
  parked.deadline_nanos =
      request->deadline_nanos != 0 ? request->deadline_nanos : now + static_cast<int64_t>(wait_s * 1e9);
  {
    std::lock_guard lock(mutex_);
    next_look_ = std::min({next_look_.load(), parked.deadline_nanos, now + kLookNanos});
    parked_.push_back(std::move(parked));
    count_.fetch_add(1);
  }
  // The table may have changed before the request was counted: whoever sleeps or polls next looks once more.
  look_again_ = true;
  state->wanted = true;
  loader_->Signal();
}

bool ParkingLot::Reserve(const spec::ModelConfig& config, int64_t bytes, LazyState* state) const {
  const int limit = config.queue_limit != spec::ModelConfig().queue_limit ? config.queue_limit : queue_limit_;
  const int before = state->parked.fetch_add(1);
  const int64_t bytes_before = state->parked_bytes.fetch_add(bytes);
  if (before < limit && (before == 0 || bytes_before + bytes <= config.queue_bytes)) return true;
  GiveBack(bytes, state);
  return false;
}

void ParkingLot::GiveBack(int64_t bytes, LazyState* state) {
  state->parked_bytes.fetch_sub(bytes);
  state->parked.fetch_sub(1);
}

void ParkingLot::TableChanged() {
  if (count_.load() == 0) return;
  look_again_ = true;
  std::lock_guard lock(workers_mutex_);
  for (Worker* worker : workers_) worker->Wake();
}

void ParkingLot::Join(Worker* worker) {
  inner_->Join(worker);
  std::lock_guard lock(workers_mutex_);
  workers_.push_back(worker);
}

void ParkingLot::Leave(Worker* worker) {
  {
    std::lock_guard lock(workers_mutex_);
    std::erase(workers_, worker);
  }
  inner_->Leave(worker);
}

int64_t ParkingLot::BeginSleep(Worker* worker) {
  const int64_t until = inner_->BeginSleep(worker);
  if (count_.load() == 0) return until;
  return look_again_ ? 0 : std::min(until, next_look_.load());
}

bool ParkingLot::RunOne() {
  if (count_.load(std::memory_order_relaxed) == 0) return inner_->RunOne();
  Parked taken;
  if (!TakeOne(&taken)) return inner_->RunOne();
  const int64_t parked_ns = std::max<int64_t>(1, clock_->MonotonicNanos() - taken.began_nanos);
  if (taken.run_on != nullptr) {
    Holder::Submit(taken.request, std::move(taken.run_on), parked_ns);
  } else {
    if (!absl::IsCancelled(taken.request->status)) taken.request->queue_ns = parked_ns;  // counted as rejected
    taken.request->owner->Finished(taken.request);
  }
  GiveBack(taken.bytes, taken.state.get());
  return true;
}

bool ParkingLot::TakeOne(Parked* taken) {
  const int64_t now = clock_->MonotonicNanos();
  if (!look_again_.exchange(false) && now < next_look_.load()) return false;
  std::lock_guard lock(mutex_);
  int64_t next = parked_.empty() ? kNever : now + kLookNanos;
  for (size_t i = 0; i < parked_.size(); ++i) {
    if (Decide(&parked_[i], now)) {
      *taken = std::move(parked_[i]);
      parked_.erase(parked_.begin() + static_cast<std::ptrdiff_t>(i));
      count_.fetch_sub(1);
      look_again_ = true;  // others may be due too
      return true;
    }
    next = std::min(next, parked_[i].deadline_nanos);
  }
  next_look_ = next;
  return false;
}

bool ParkingLot::Decide(Parked* parked, int64_t now) {
  Request* request = parked->request;
  const std::string name = Name(parked->model, parked->version);
  if (request->cancelled != nullptr && request->cancelled->load()) {
    request->status = Cancelled("the client has gone");
    return true;
  }
  LazyNow is = look_up_(parked->model, parked->version);
  if (is.handle != nullptr) {
    parked->run_on = std::move(is.handle);
    return true;
  }
  if (now >= parked->deadline_nanos) {
    request->status = DeadlineExceeded(name, " was not loaded in time; it goes on loading", kTryAgain);
    return true;
  }
  if (is.hopeless || (is.loads != parked->loads && !is.loading && !is.failure.empty())) {
    request->status = Unavailable(name, " could not be loaded: ", is.failure);
    return true;
  }
  if (is.loads != parked->loads && !is.loading) {
    // Loaded, and unloaded again before this request's turn.
    parked->loads = is.loads;
    parked->state->wanted = true;
    loader_->Signal();
  }
  return false;
}

absl::Status LazyVersion::RunInBackground(const std::vector<Request::Input>&, std::vector<Tensor>*) const {
  return Unavailable(Name(model_, version_), " is lazy and not loaded; its first request loads it");
}

void LazyVersion::Record(bool ok, int64_t rows, int64_t total_ns, int64_t queue_ns, int64_t input_ns, int64_t infer_ns,
                         int64_t output_ns) const {
  LazyNow is = lot_->Find(model_, version_);
  if (is.handle != nullptr) is.handle->Record(ok, rows, total_ns, queue_ns, input_ns, infer_ns, output_ns);
}

LoadNow LazyVersion::ReadLoad() const {
  LoadNow load;
  load.model = model_;
  load.version = version_;
  load.waiting = state_->parked;
  return load;
}

}  // namespace tandem::serving
