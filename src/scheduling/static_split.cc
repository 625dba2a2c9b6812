// "static_split": the outer shares, whatever the time and the load.
#include "scheduling/grant.h"
#include "scheduling/jobs_plan.h"
#include "scheduling/policies.h"

namespace tandem::scheduling {
namespace {

class StaticSplit : public Policy {
 public:
  std::string_view name() const override { return "static_split"; }

  Actions Decide(const Snapshot& snapshot) const override {
    const Timetable timetable(snapshot.sharing, /*follows_windows=*/false);
    Actions actions;
    actions.memory = snapshot.memory;
    actions.memory.window.clear();
    actions.grant = MakeGrant(snapshot, timetable, 1);
    PlanJobs(snapshot, timetable, &actions);
    return actions;
  }
};

}  // namespace

std::unique_ptr<Policy> MakeStaticSplit() { return std::make_unique<StaticSplit>(); }

}  // namespace tandem::scheduling
