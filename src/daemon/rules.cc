#include "daemon/rules.h"

#include "base/status.h"

namespace tandem::daemon {
namespace {

scheduling::SideShare ToShare(const spec::SideSpec& side) {
  return {.cpu = side.cpu,
          .memory = side.memory,
          .disk_write_bytes_per_s = side.disk_write_bytes_per_s,
          .disk_read_bytes_per_s = side.disk_read_bytes_per_s,
          .disk_iops = side.disk_iops};
}

scheduling::Split ToSplit(const spec::SplitSpec& split) {
  return {.serving = ToShare(split.serving),
          .training = ToShare(split.training),
          .lend = split.lend,
          .ratio_every_ms = static_cast<int64_t>(split.ratio_every_s * 1000),
          .ratio_training = split.ratio_training};
}

}  // namespace

double Rules::SloOf(const std::string& model, double otherwise) const {
  auto found = spec.slo_ms.find(model);
  return found == spec.slo_ms.end() ? otherwise : found->second;
}

absl::StatusOr<std::shared_ptr<const Rules>> MakeRules(spec::SharingSpec spec) {
  auto rules = std::make_shared<Rules>();
  TANDEM_ASSIGN_OR_RETURN(rules->policy, scheduling::MakePolicy(spec.policy));
  rules->sharing.split = ToSplit(spec.split);
  rules->sharing.min_training = spec.min_training;
  rules->sharing.gate = spec.gate;
  for (const spec::WindowOfSharing& window : spec.windows) {
    rules->sharing.windows.push_back({window.name, window.window, ToSplit(window.split)});
  }
  rules->spec = std::move(spec);
  return rules;
}

}  // namespace tandem::daemon
