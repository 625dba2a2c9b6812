#pragma once
// A data-plane thread with its connections.
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <thread>
#include <unordered_map>

#include "api/http/connection.h"
#include "api/http/door.h"
#include "api/http/v2_infer.h"

namespace tandem::api::http {

// Methods run on its own thread where nothing else is said.
class IoThread {
 public:
  IoThread(Door* door, int index);

  // From the owner's thread.
  void Start();
  void Stop();
  // From any thread: closes connections that are idle, the others after their answer.
  void Drain();
  // From any thread: closes all.
  void CloseAll();
  // From any data-plane thread: takes over a new connection's descriptor.
  void Adopt(UniqueFd fd, const Port* port, bool refuse);
  // From a pool's thread, without a lock: calls connection->OnPoolDone() on this thread.
  void PostDone(Connection* connection);

  boost::asio::io_context& context() { return context_; }
  InferDoor& infer() { return infer_; }
  // Deletes it.
  void Remove(Connection* connection);

 private:
  void WaitForDone();
  void RunDone();
  void StartTicking();
  void Tick();
  // All connections; calls may remove the one they are made on.
  template <typename Use>
  void ForEach(const Use& use);

  Door* const door_;
  const int index_;
  boost::asio::io_context context_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::posix::stream_descriptor wake_;  // an eventfd
  std::atomic<Connection*> done_ = nullptr;
  boost::asio::steady_timer timer_;
  bool ticking_ = false;
  InferDoor infer_;
  std::unordered_map<Connection*, std::unique_ptr<Connection>> connections_;
  std::thread thread_;
};

}  // namespace tandem::api::http
