#include "api/http/io_thread.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

constexpr int kOneThread = 1;  // a hint to the context that nothing else runs it

std::chrono::milliseconds TickPeriod(const ServerSettings& settings) {
  double seconds = std::min(settings.read_timeout_s, settings.idle_timeout_s) / 4;
  return std::chrono::milliseconds(static_cast<int>(1000 * std::clamp(seconds, 0.02, 1.0)));
}

}  // namespace

IoThread::IoThread(Door* door, int index)
    : door_(door),
      index_(index),
      context_(kOneThread),
      work_(context_.get_executor()),
      wake_(context_, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      timer_(context_),
      infer_(door->services.inference, door->settings.max_json_depth) {}

void IoThread::Start() {
  WaitForDone();
  thread_ = std::thread([this] {
    const std::string name = StrCat("http-io-", index_);
    pthread_setname_np(pthread_self(), name.c_str());
    if (door_->settings.on_io_thread) door_->settings.on_io_thread(name);
    context_.run();
  });
}

void IoThread::Stop() {
  context_.stop();
  if (thread_.joinable()) thread_.join();
}

void IoThread::Drain() {
  boost::asio::post(context_, [this] { ForEach([](Connection* connection) { connection->Drain(); }); });
}

void IoThread::CloseAll() {
  boost::asio::post(context_, [this] { ForEach([](Connection* connection) { connection->ForceClose(); }); });
}

void IoThread::Adopt(UniqueFd fd, const Port* port, bool refuse) {
  boost::asio::post(context_, [this, fd = std::move(fd), port, refuse]() mutable {
    auto connection = std::make_unique<Connection>(this, door_, port, std::move(fd), refuse);
    Connection* added = connection.get();
    connections_.emplace(added, std::move(connection));
    StartTicking();
    added->Start();
  });
}

void IoThread::Remove(Connection* connection) { connections_.erase(connection); }

void IoThread::PostDone(Connection* connection) {
  Connection* first = done_.load(std::memory_order_relaxed);
  do {
    connection->next_done = first;
  } while (!done_.compare_exchange_weak(first, connection, std::memory_order_release, std::memory_order_relaxed));
  uint64_t one = 1;
  // An eventfd takes the write unless its counter is full, and then the thread is awake anyway.
  if (first == nullptr && write(wake_.native_handle(), &one, sizeof one) < 0) return;
}

void IoThread::WaitForDone() {
  wake_.async_wait(boost::asio::posix::stream_descriptor::wait_read, [this](const boost::system::error_code& error) {
    if (error) return;
    uint64_t count;
    // Read first: what comes after this read wakes again.
    if (read(wake_.native_handle(), &count, sizeof count) > 0) RunDone();
    WaitForDone();
  });
}

void IoThread::RunDone() {
  Connection* next = done_.exchange(nullptr, std::memory_order_acquire);
  while (next != nullptr) {
    Connection* connection = next;
    next = connection->next_done;
    connection->OnPoolDone();
  }
}

void IoThread::StartTicking() {
  if (ticking_) return;
  ticking_ = true;
  timer_.expires_after(TickPeriod(door_->settings));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) Tick();
  });
}

void IoThread::Tick() {
  int64_t now = Clock::Real()->MonotonicNanos();
  ForEach([now](Connection* connection) { connection->CheckDeadline(now); });
  ticking_ = false;
  if (!connections_.empty()) StartTicking();
}

template <typename Use>
void IoThread::ForEach(const Use& use) {
  std::vector<Connection*> all;
  all.reserve(connections_.size());
  for (const auto& [connection, owner] : connections_) all.push_back(connection);
  for (Connection* connection : all) use(connection);
}

}  // namespace tandem::api::http
