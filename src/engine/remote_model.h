#pragma once
// What LoadRemote makes, as its tests see it. Internal to this module.
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/host_process.h"
#include "engine/remote.h"

namespace tandem::engine {

// How long to wait before the next start of a child: 1, 2, 4 .. 30 s.
class Backoff {
 public:
  // For a child that has ended after it had served for `lived_nanos`; a minute of that begins anew.
  int64_t NextNanos(int64_t lived_nanos);

 private:
  int failures_ = 0;
};

class RemoteInstance;

// MakeInstance and the instances' ends: one call at a time. Step and Wait belong to one thread, the model's own unless
// options.supervise is false.
class RemoteModel : public LoadedModel {
 public:
  static absl::StatusOr<std::unique_ptr<RemoteModel>> Load(RemoteOptions options);
  ~RemoteModel() override;

  const std::vector<TensorSignature>& inputs() const override { return inputs_; }
  const std::vector<TensorSignature>& outputs() const override { return outputs_; }
  absl::StatusOr<std::unique_ptr<Instance>> MakeInstance() override;

  // One look: clears away a child that ended, once no run is in it any more, and starts the next when its time has
  // come.
  void Step();
  // Until there is something for Step to do; at most timeout_ms (-1 = no limit).
  void Wait(int timeout_ms);

 private:
  friend class RemoteInstance;
  explicit RemoteModel(RemoteOptions options) : options_(std::move(options)) {}
  bool HasEnded() const;
  bool Bury();
  void Start();
  void PutOff(int64_t lived_nanos);
  absl::Status Link(RemoteInstance* instance);  // REQUIRES: mutex_ held, host_ there, the instance down
  void StartRequests(RemoteInstance* instance);
  void Forget(RemoteInstance* instance);

  // For instances, on any thread; none of them takes a lock.
  absl::Status WhyDown() const;
  absl::Status Lost(const RunLink& link, const RunLink::Result& result);
  void Wake() const;

  const RemoteOptions options_;
  std::vector<TensorSignature> inputs_, outputs_;
  UniqueFd wake_, stop_;  // eventfds

  // Of the thread that steps.
  Backoff backoff_;
  int64_t up_nanos_ = 0;

  // What instances read. ending_ is that of the last child; next_start_nanos_ is 0 until it was buried.
  std::atomic<Ending> ending_{Ending()};
  std::atomic<int64_t> next_start_nanos_{0};
  std::atomic<bool> ended_{false};  // the child has, or is to be killed; set before Bury looks at the instances' states

  std::mutex mutex_;
  std::unique_ptr<HostProcess> host_;       // written by the thread that steps with mutex_ held
  std::vector<RemoteInstance*> instances_;  // guarded by mutex_
  std::jthread keeper_;                     // last: joined first
};

}  // namespace tandem::engine
