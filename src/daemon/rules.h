#pragma once
// The sharing rules in force: what a person wrote, in the policy's terms, with the policy that reads them.
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "scheduling/policy.h"
#include "spec/sharing_spec.h"

namespace tandem::daemon {

// Immutable; shared between the control loop and whoever shows it.
struct Rules {
  spec::SharingSpec spec;
  scheduling::Sharing sharing;
  std::unique_ptr<const scheduling::Policy> policy;

  // Target p99 of a model; `otherwise` where the rules name none.
  double SloOf(const std::string& model, double otherwise) const;
};

absl::StatusOr<std::shared_ptr<const Rules>> MakeRules(spec::SharingSpec spec);

}  // namespace tandem::daemon
