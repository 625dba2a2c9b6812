#pragma once
// A completion queue, its calls, and the data-plane threads that share them.
#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <atomic>
#include <memory>
#include <set>
#include <vector>

#include "api/grpc/door.h"
#include "api/grpc/event.h"
#include "api/grpc/io_member.h"
#include "base/wakeup_coalescer.h"

namespace tandem::api::rpc {

// One call after the other of one method. Methods run on the group's leader where nothing else is said.
class Call {
 public:
  virtual ~Call() = default;
  // Waits for a call of the method.
  virtual void Arm() = 0;
  // The server stops taking calls: ends what would stay open for ever.
  virtual void Drain() {}
  // After IoGroup::Post.
  virtual void OnPosted() {}

  Call* next_posted = nullptr;  // the group's
};

// One thread leads: it alone waits for events, acts on them, and touches what belongs to the group. Before it runs an
// engine for long it hands the lead to a thread that has nothing to do, and goes on with its request; so a request is
// read, run and answered by one thread, and the next one need not wait for that. (Leader/Followers, Schmidt et al.
// 2000. With a queue for each thread, gRPC 1.51 hands the sockets from thread to thread: several wake-ups for a
// request.)
class IoGroup {
 public:
  // `door` outlives it. Its threads are first_index to first_index + threads - 1 of the server.
  IoGroup(Door* door, int first_index, int threads, std::unique_ptr<::grpc::ServerCompletionQueue> queue);
  ~IoGroup();

  // From the owner's thread.
  void Start();
  // From the owner's thread, after the gRPC server was shut down: returns when every call has ended.
  void Stop();
  // From any thread: streams that wait for their client end.
  void Drain();
  // From any thread, without a lock: calls call->OnPosted() on the leader.
  void Post(Call* call);

  // A call has arrived: waits for one more of the method. False when it is too late to serve it.
  bool Begin(size_t method);
  // The call that began has ended, and may be armed again.
  void Recycle(size_t method, Call* call);
  // A request has arrived on a stream.
  void CountRequest() { ++begun_; }
  void AddStream(Call* call) { streams_.insert(call); }
  void RemoveStream(Call* call) { streams_.erase(call); }
  // Nothing is served any more.
  bool over() const { return over_.load(); }
  // Whether this thread leads; from any thread. Having called an inference engine, it may not any more.
  bool Leads() const;
  // Of the leader, before it works for long: another thread leads, if one has nothing to do.
  void StepAside();

  Door* door() { return door_; }
  ::grpc::ServerCompletionQueue* queue() { return queue_.get(); }

 private:
  friend class IoMember;

  // Of members, on their own threads.
  void Run(IoMember* member);
  void HandOver(IoMember* member);
  // Ends the leader's sleep, or its next one. From any thread.
  void Wake();

  // Of the leader.
  void Lead(IoMember* member);
  void Follow(IoMember* member);
  void ArmAll();
  void ArmOne(size_t method);
  // Waits for an event, at most until then (monotonic nanoseconds, 0 = not at all).
  struct Next {
    Event* event = nullptr;
    bool ok = false;
  };
  Next WaitUntil(int64_t until);
  bool FireNext();
  void Sleep(IoMember* member);
  void Gather(IoMember* member);
  void End();    // every call has
  void Empty();  // the queue
  void OnWake(bool ok);

  Door* const door_;
  WorkSource* const work_;
  const std::unique_ptr<::grpc::ServerCompletionQueue> queue_;
  std::vector<std::unique_ptr<IoMember>> members_;
  std::atomic<IoMember*> leader_ = nullptr;

  // The leader's.
  std::vector<std::vector<Call*>> free_;  // by method
  std::vector<std::unique_ptr<Call>> calls_;
  std::set<Call*> streams_;  // that are open
  int open_ = 0;             // calls that began
  int begun_ = 0;            // of them, and requests of streams, since it last had nothing to do
  WakeupCoalescer coalescer_;
  EventTo<IoGroup, &IoGroup::OnWake> wake_event_{this};
  ::grpc::Alarm alarm_;

  std::atomic<bool> armed_ = false, waking_ = false, draining_ = false, stop_ = false, over_ = false;
  std::atomic<Call*> posted_ = nullptr;
  std::atomic<int> posting_ = 0;  // threads inside Post
};

}  // namespace tandem::api::rpc
