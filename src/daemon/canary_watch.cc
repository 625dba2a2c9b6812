#include "daemon/canary_watch.h"

#include "base/status.h"
#include "serving/canary_rule.h"
#include "telemetry/log.h"

namespace tandem::daemon {

void CanaryWatch::Step() {
  for (const CanaryInForce& canary : catalog_->Canaries()) {
    absl::StatusOr<serving::CanaryReport> report = serving_->ReadCanary(canary.model);
    // The figures may still be those of the canary before.
    if (!report.ok() || report->canary.version != canary.version) continue;
    serving::Verdict verdict = serving::Judge(*report, canary.bounds);
    if (verdict.kind != serving::Verdict::Kind::kRollBack) continue;
    Log(LogLevel::kWarning, "canary rolled back",
        {{"model", canary.model}, {"version", canary.version}, {"reason", verdict.reason}});
    absl::Status ended = catalog_->EndSplit(registry::SplitPart::kCanary, canary.model, canary.version, "tandem",
                                            StrCat("rolled back: ", verdict.reason));
    // FailedPrecondition: an operator was faster.
    if (ended.ok() || absl::IsFailedPrecondition(ended) || absl::IsNotFound(ended)) continue;
    Log(LogLevel::kError, "the canary could not be ended", {{"model", canary.model}, {"error", MessageOf(ended)}});
  }
}

}  // namespace tandem::daemon
