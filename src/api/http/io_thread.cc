#include "api/http/io_thread.h"

#include <pthread.h>

#include <algorithm>
#include <future>

#include "base/clock.h"
#include "base/strings.h"

namespace tandem::api::http {
namespace {

// Slots kept for the next requests; more are made and dropped as a crowd comes and goes.
constexpr size_t kKeptSlots = 64;

thread_local const IoThread* current_thread = nullptr;

int64_t Now() { return Clock::Real()->MonotonicNanos(); }

int64_t TickPeriodNs(const ServerSettings& settings) {
  double seconds = std::min(settings.read_timeout_s, settings.idle_timeout_s) / 4;
  return static_cast<int64_t>(1e9 * std::clamp(seconds, 0.02, 1.0));
}

}  // namespace

IoThread::IoThread(Door* door, int index) : door_(door), index_(index), work_(door->services.inference->work()) {}

IoThread::~IoThread() {
  // Who posted last may still be on its way out of Post.
  while (posting_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
}

void IoThread::Start() {
  thread_ = std::thread([this] {
    const std::string name = StrCat("http-io-", index_);
    pthread_setname_np(pthread_self(), name.c_str());
    if (door_->settings.on_io_thread) door_->settings.on_io_thread(name);
    Run();
  });
}

void IoThread::Stop() {
  if (!thread_.joinable()) return;
  PostCall([this] {
    stopping_ = true;
    ForEach([](Connection* connection) { connection->ForceClose(); });
  });
  thread_.join();
}

void IoThread::Drain() {
  PostCall([this] { ForEach([](Connection* connection) { connection->Drain(); }); });
}

void IoThread::CloseAll() {
  std::promise<void> closed;
  PostCall([&] {
    ForEach([](Connection* connection) { connection->ForceClose(); });
    closed.set_value();
  });
  closed.get_future().wait();
}

void IoThread::Adopt(UniqueFd fd, const Port* port, bool refuse) {
  auto connection = std::make_unique<Connection>(this, door_, port, std::move(fd), refuse);
  if (IsCurrent()) return RunSoon(connection.release());
  Post(connection.release());
}

bool IoThread::IsCurrent() const { return current_thread == this; }

void IoThread::Insert(std::unique_ptr<Connection> connection) {
  Connection* key = connection.get();
  connections_.emplace(key, std::move(connection));
  StartTicking();
}

void IoThread::Remove(Connection* connection) {
  std::erase(soon_, connection);
  connections_.erase(connection);
}

std::unique_ptr<InferSlot> IoThread::TakeSlot() {
  if (slots_.empty()) return std::make_unique<InferSlot>(door_->services, door_->settings.max_json_depth);
  std::unique_ptr<InferSlot> slot = std::move(slots_.back());
  slots_.pop_back();
  return slot;
}

void IoThread::ReturnSlot(std::unique_ptr<InferSlot> slot) {
  slot->Clear();
  if (!slot->is_large() && slots_.size() < kKeptSlots) slots_.push_back(std::move(slot));
}

void IoThread::Post(Posted* item) {
  posting_.fetch_add(1, std::memory_order_relaxed);
  Posted* first = posted_.load(std::memory_order_relaxed);
  do {
    item->next_posted = first;
  } while (!posted_.compare_exchange_weak(first, item, std::memory_order_release, std::memory_order_relaxed));
  if (first == nullptr) Wake();
  // The last use of this.
  posting_.fetch_sub(1, std::memory_order_release);
}

void IoThread::Run() {
  current_thread = this;
  work_->Join(this);
  while (!stopping_ || !connections_.empty()) {
    Poll();
    // One batch between two polls: a more urgent request that arrived meanwhile comes next.
    work_->RunOne();
    RunWhatIsSoon();
  }
  work_->Leave(this);
  current_thread = nullptr;
}

void IoThread::Poll() {
  if (soon_.empty()) {
    Sleep();
  } else {
    poller_.Wait(0);
  }
  handled_ += poller_.count();
  const Poller::Found found = poller_.Dispatch();
  if (found.woken) RunPosted();
  if (found.alarm) Tick();
}

void IoThread::Sleep() {
  const int64_t pause_end = coalescer_.Next(std::exchange(handled_, 0), Now());
  if (pause_end > 0) WakeupCoalescer::SleepUntil(pause_end);
  poller_.Wait(work_->BeginSleep(this));
  work_->EndSleep(this);
}

void IoThread::RunPosted() {
  Posted* newest = posted_.exchange(nullptr, std::memory_order_acquire);
  Posted* next = nullptr;
  while (newest != nullptr) {  // the oldest first
    Posted* older = newest->next_posted;
    newest->next_posted = next;
    next = std::exchange(newest, older);
  }
  while (next != nullptr) {
    Posted* item = std::exchange(next, next->next_posted);
    item->Run();
  }
}

void IoThread::RunWhatIsSoon() {
  if (soon_.empty()) return;
  running_.swap(soon_);
  for (Posted* item : running_) item->Run();
  running_.clear();
}

void IoThread::RunAtTick(Posted* item) {
  at_tick_.push_back(item);
  StartTicking();
}

void IoThread::StartTicking() {
  if (std::exchange(ticking_, true)) return;
  poller_.SetAlarm(Now() + TickPeriodNs(door_->settings));
}

void IoThread::Tick() {
  const int64_t now_ns = Now();
  ForEach([now_ns](Connection* connection) { connection->CheckDeadline(now_ns); });
  ticking_ = false;
  if (!connections_.empty()) StartTicking();
  for (Posted* item : std::exchange(at_tick_, {})) item->Run();
}

template <typename Use>
void IoThread::ForEach(const Use& use) {
  std::vector<Connection*> all;
  all.reserve(connections_.size());
  for (const auto& [connection, owner] : connections_) all.push_back(connection);
  for (Connection* connection : all) use(connection);
}

}  // namespace tandem::api::http
