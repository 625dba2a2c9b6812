#pragma once
// The control plane's book of versions: what should be there, what is, and what follows from the difference. No thread,
// no I/O: the loader asks what to load and says what became of it.
#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/waker.h"
#include "serving/lazy.h"
#include "serving/memory.h"
#include "serving/router.h"
#include "serving/serving.h"
#include "serving/table.h"
#include "serving/version.h"

namespace tandem::serving {

// A version on its way out: unloaded once nobody holds a handle.
struct Draining {
  std::unique_ptr<Version> version;
  std::shared_ptr<std::atomic<bool>> released;
  VersionStatus status;
};

// What became of a load.
struct LoadResult {
  absl::Status status;               // why it failed
  std::unique_ptr<Version> version;  // null if it failed
  int64_t memory_bytes = 0;
  double seconds = 0;
};

// Thread-compatible: one mutex of its owner guards it.
class Slots {
 public:
  struct Parts {
    std::shared_ptr<Waker> waker;  // signalled, from any thread, when the last handle of a version is gone
    RouterMaker* routers = nullptr;
    ParkingLot* lot = nullptr;
    const Clock* clock = nullptr;
  };
  explicit Slots(Parts parts) : parts_(std::move(parts)) {}

  void SetDesired(std::vector<DesiredModel> models);

  // One version to load, if there is any, the longest wanted first. `ticket` tells Finish whether it is still wanted.
  struct Task {
    std::string model;
    DesiredVersion spec;
    uint64_t ticket = 0;
    int instances = 1;  // as many as the model has now: what takes over from it begins with so many
  };
  std::optional<Task> NextTask() const;
  // It waits to be loaded, or is being loaded, perhaps beside what serves.
  bool IsPending(const std::string& model, int32_t version) const;
  // Takes the result in; gives the version's state for LoadEvents. A result that nobody wants any more is drained.
  VersionStatus Finish(const Task& task, LoadResult result);

  // Lazy versions. Demand: loads it if it is not loaded. TakeWanted: does so for all that requests want; false if none.
  void Demand(const std::string& model, int32_t version);
  bool TakeWanted();
  // Those of which it is not known yet what they take; SetSignature tells (null = not known without loading).
  std::vector<Task> UnknownSignatures() const;
  void SetSignature(const Task& task, std::shared_ptr<const LazySignature> signature);
  void Evict(const std::string& model, int32_t version);

  // Lets go of versions that were kept for their open sequences, once these have ended. False if there were none.
  bool RetireElders();

  // Removes and gives what can be unloaded now. REQUIRES: a table without these versions was published.
  std::vector<Draining> TakeReleased();
  bool HasDraining() const { return !draining_.empty(); }

  std::unique_ptr<const Table> MakeTable();
  // nullptr if the version is not wanted.
  const VersionStatus* Find(const std::string& model, int32_t version) const;
  // All that holds memory now: ready and draining versions.
  std::vector<MemoryUser> InMemory() const;
  // What serves. `version` lives as long as the handle.
  struct ReadyVersion {
    ModelHandle handle;
    Version* version = nullptr;
    int64_t instance_bytes = 0;  // of memory
  };
  std::vector<ReadyVersion> Ready() const;
  // It has another number of instances now.
  void SetInstances(const ReadyVersion& of, int instances);

 private:
  struct Slot {
    DesiredVersion spec;  // what should be loaded, or failed to
    bool desired = true;  // false: kept only until the default or an alias can move on
    uint64_t ticket = 0;  // not 0: to be loaded
    bool stale = false;   // what serves is older than `spec`, and its reload was given up
    VersionStatus status;
    std::unique_ptr<Version> version;  // what serves
    int instances = 1;                 // of it
    std::shared_ptr<std::atomic<bool>> released;
    ModelHandle lease;  // the table's handles are copies of it

    std::shared_ptr<LazyState> lazy;  // null = loaded at once
    bool signature_known = false;     // or known to be unknown
    std::shared_ptr<const LazySignature> signature;
    ModelHandle parking;
    uint64_t loads = 0;  // that ended
    std::string failure;
  };
  struct Model {
    bool desired = true;
    std::map<int32_t, Slot> slots;
    std::vector<ReadyVersion> elders;                        // they drain, but sequences that began there go on there
    std::map<std::string, int32_t> wanted_aliases, aliases;  // aliases: what requests get
    int32_t wanted_default = 0, default_version = 0;         // the same for the default
    Split split;
    SplitHistory split_history;
    std::shared_ptr<const TableModel> seen;  // null = to be made anew
  };
  using Models = std::map<std::string, Model>;

  void Want(const std::string& name, Model* model, DesiredVersion spec);
  void Enqueue(const std::string& model, Slot* slot);
  void Dequeue(Slot* slot);
  // Takes a lazy version into the state before its first load.
  void LayDown(Slot* slot, std::string reason);
  // Moves default and aliases to what is ready, and drains what nobody wants.
  void Settle(const std::string& name, Model* model);
  // Drains what nobody wants and no alias needs until it can move on.
  void DropUnwanted(Model* model);
  // What requests that ask for `wanted` get, who had `current` so far.
  int32_t Follow(const std::string& name, Model* model, int32_t wanted, int32_t current);
  static int32_t HighestUsable(const Model& model);
  void Install(Model* model, Slot* slot, LoadResult result);
  void Drain(Model* model, Slot* slot);
  std::shared_ptr<const TableModel> MakeModel(const std::string& name, Model* model);
  static void AddHolders(const Model& model, TableModel* out);
  static RouterMaker::Side SideOf(const Model& model, int32_t version);

  const Parts parts_;
  uint64_t last_ticket_ = 0;
  std::map<uint64_t, std::pair<std::string, int32_t>> queue_;  // by ticket
  Models models_;
  std::list<Draining> draining_;
};

}  // namespace tandem::serving
