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
#include <vector>

#include "serving/serving.h"
#include "serving/table.h"
#include "serving/version.h"
#include "serving/waker.h"

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
  // `waker` is signalled, from any thread, when the last handle of a version is gone.
  explicit Slots(std::shared_ptr<Waker> waker) : waker_(std::move(waker)) {}

  void SetDesired(std::vector<DesiredModel> models);

  // One version to load, if there is any. `ticket` tells Finish whether it is still wanted.
  struct Task {
    std::string model;
    DesiredVersion spec;
    uint64_t ticket = 0;
  };
  std::optional<Task> NextTask() const;
  // Takes the result in; gives the version's state for LoadEvents. A result that nobody wants any more is drained.
  VersionStatus Finish(const Task& task, LoadResult result);

  // Removes and gives what can be unloaded now. REQUIRES: a table without these versions was published.
  std::vector<Draining> TakeReleased();
  bool HasDraining() const { return !draining_.empty(); }

  std::unique_ptr<const Table> MakeTable() const;
  // nullptr if the version is not wanted.
  const VersionStatus* Find(const std::string& model, int32_t version) const;
  // All that holds memory now: ready and draining versions.
  std::vector<VersionStatus> InMemory() const;

 private:
  struct Slot {
    DesiredVersion spec;  // what should be loaded, or failed to
    bool desired = true;  // false: kept only until the default or an alias can move on
    uint64_t ticket = 0;  // not 0: to be loaded
    VersionStatus status;
    std::unique_ptr<Version> version;  // what serves
    std::shared_ptr<std::atomic<bool>> released;
    ModelHandle lease;  // the table's handles are copies of it
  };
  struct Model {
    bool desired = true;
    std::map<int32_t, Slot> slots;
    std::map<std::string, int32_t> wanted_aliases, aliases;  // aliases: what requests get
    int32_t wanted_default = 0, default_version = 0;         // the same for the default
  };
  using Models = std::map<std::string, Model>;

  void Want(const std::string& name, Model* model, const DesiredVersion& spec);
  // Moves default and aliases to what is ready, and drains what nobody wants.
  void Settle(Model* model);
  void Install(Slot* slot, LoadResult result);
  void Drain(Slot* slot);

  std::shared_ptr<Waker> waker_;
  uint64_t last_ticket_ = 0;
  Models models_;
  std::list<Draining> draining_;
};

}  // namespace tandem::serving
