// "windows": the shares of the open window, or the outer ones.
#include "scheduling/grant.h"
#include "scheduling/jobs_plan.h"
#include "scheduling/policies.h"

namespace tandem::scheduling {
namespace {

class Windows : public Policy {
 public:
  std::string_view name() const override { return "windows"; }

  Actions Decide(const Snapshot& snapshot) const override {
    const Timetable timetable(snapshot.sharing, /*follows_windows=*/true);
    Actions actions;
    actions.memory = snapshot.memory;
    GrantByTimetable(snapshot, timetable, 1, &actions);
    PlanJobs(snapshot, timetable, &actions);
    return actions;
  }
};

}  // namespace

std::unique_ptr<Policy> MakeWindows() { return std::make_unique<Windows>(); }

}  // namespace tandem::scheduling
