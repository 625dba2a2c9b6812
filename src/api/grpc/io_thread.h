#pragma once
// A data-plane thread with its completion queue and its calls.
#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "api/grpc/door.h"
#include "api/grpc/event.h"
#include "base/work_source.h"

namespace tandem::api::rpc {

// One call after the other of one method. Methods run on its thread where nothing else is said.
class Call {
 public:
  virtual ~Call() = default;
  // Waits for a call of the method.
  virtual void Arm() = 0;
  // The server stops taking calls: ends what would stay open for ever.
  virtual void Drain() {}
  // After IoThread::Post.
  virtual void OnPosted() {}

  Call* next_posted = nullptr;  // the thread's
};

class IoThread : private WorkSource::Worker {
 public:
  // `door` outlives it.
  IoThread(Door* door, int index, std::unique_ptr<::grpc::ServerCompletionQueue> queue);
  ~IoThread() override;

  // From the owner's thread.
  void Start();
  // From the owner's thread, after the gRPC server was shut down: returns when every call has ended.
  void Stop();
  // From any thread: streams that wait for their client end.
  void Drain();
  // From any thread, without a lock: calls call->OnPosted() on this thread.
  void Post(Call* call);

  // A call has arrived: waits for one more of the method. False when it is too late to serve it.
  bool Begin(size_t method);
  // The call that began has ended, and may be armed again.
  void Recycle(size_t method, Call* call);
  void AddStream(Call* call) { streams_.insert(call); }
  void RemoveStream(Call* call) { streams_.erase(call); }
  // Nothing is served any more.
  bool over() const { return over_; }

  Door* door() { return door_; }
  ::grpc::ServerCompletionQueue* queue() { return queue_.get(); }

 private:
  void Run();
  void Loop();
  void ArmOne(size_t method);
  void Wake() override;
  void OnWake(bool ok);

  Door* const door_;
  const int index_;
  const std::unique_ptr<::grpc::ServerCompletionQueue> queue_;
  std::vector<std::vector<Call*>> free_;  // by method
  std::vector<std::unique_ptr<Call>> calls_;
  std::set<Call*> streams_;  // that are open
  int open_ = 0;             // calls that began
  bool over_ = false;
  EventTo<IoThread, &IoThread::OnWake> wake_event_{this};
  ::grpc::Alarm alarm_;
  std::atomic<bool> armed_ = false, waking_ = false, draining_ = false, stop_ = false;
  std::atomic<Call*> posted_ = nullptr;
  std::atomic<int> posting_ = 0;  // threads inside Post
  std::thread thread_;
};

}  // namespace tandem::api::rpc
