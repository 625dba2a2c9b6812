#pragma once
// A data-plane thread: it polls its connections, and between two polls runs what inference has queued.
#include <atomic>
#include <memory>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "api/http/connection.h"
#include "api/http/door.h"
#include "api/http/poller.h"
#include "api/http/posted.h"
#include "api/http/v2_infer.h"
#include "base/wakeup_coalescer.h"
#include "base/work_source.h"

namespace tandem::api::http {

// Methods run on its own thread where nothing else is said.
class IoThread : public WorkSource::Worker {
 public:
  // Throws std::system_error without descriptors.
  IoThread(Door* door, int index);
  ~IoThread() override;

  // From the owner's thread.
  void Start();
  // From the owner's thread, after the pools: closes what is still open, and returns when every request that was
  // started has been finished.
  void Stop();
  // From any thread: closes connections that are idle, the others after their answer.
  void Drain();
  // From the owner's thread: closes all, and returns when none asks a pool for anything any more.
  void CloseAll();
  // From any data-plane thread: takes over a new connection's descriptor.
  void Adopt(UniqueFd fd, const Port* port, bool refuse);
  // From any thread, without a lock: runs `item` on this thread, in the order of the calls. It lives until then.
  void Post(Posted* item);
  template <typename Call>
  void PostCall(Call call);
  void Wake() override { poller_.Wake(); }

  bool IsCurrent() const;
  Poller* poller() { return &poller_; }
  // Runs `item` before the next sleep.
  void RunSoon(Posted* item) { soon_.push_back(item); }
  // Runs `item` within a second or so.
  void RunAtTick(Posted* item);

  std::unique_ptr<InferSlot> TakeSlot();
  void ReturnSlot(std::unique_ptr<InferSlot> slot);

  void Insert(std::unique_ptr<Connection> connection);
  // Deletes it. Nothing else may still run for it.
  void Remove(Connection* connection);

 private:
  void Run();
  void Poll();
  void Sleep();
  void RunPosted();
  void RunWhatIsSoon();
  void StartTicking();
  void Tick();
  // All connections; calls may remove the one they are made on.
  template <typename Use>
  void ForEach(const Use& use);

  Door* const door_;
  const int index_;
  WorkSource* const work_;
  Poller poller_;
  std::atomic<Posted*> posted_ = nullptr;  // the newest first
  std::atomic<int> posting_ = 0;           // threads inside Post
  std::vector<Posted*> soon_, running_, at_tick_;
  int handled_ = 0;  // events since it last slept
  WakeupCoalescer coalescer_{50'000, 3};
  bool ticking_ = false, stopping_ = false;
  std::vector<std::unique_ptr<InferSlot>> slots_;  // those that no connection uses
  std::unordered_map<Connection*, std::unique_ptr<Connection>> connections_;
  std::thread thread_;
};

template <typename Call>
void IoThread::PostCall(Call call) {
  struct Item : Posted {
    explicit Item(Call c) : call(std::move(c)) {}
    void Run() override {
      call();
      delete this;
    }
    Call call;
  };
  Post(new Item(std::move(call)));
}

}  // namespace tandem::api::http
