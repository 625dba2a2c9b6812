#include "scheduling/policy.h"

#include "base/status.h"
#include "base/text.h"
#include "scheduling/policies.h"

namespace tandem::scheduling {

std::vector<std::string> PolicyNames() { return {"latency_first", "windows", "static_split"}; }

absl::StatusOr<std::unique_ptr<Policy>> MakePolicy(std::string_view name) {
  if (name == "latency_first") return MakeLatencyFirst();
  if (name == "windows") return MakeWindows();
  if (name == "static_split") return MakeStaticSplit();
  return InvalidArgument("policy '", name, "' is not known", DidYouMean(name, PolicyNames()),
                         "; write latency_first, windows or static_split");
}

}  // namespace tandem::scheduling
