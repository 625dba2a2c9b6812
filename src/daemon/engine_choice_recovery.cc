#include "daemon/engine_choice_recovery.h"

#include "base/status.h"
#include "daemon/engine_choice_report.h"
#include "daemon/model_catalog.h"
#include "engine/model_file.h"

namespace tandem::daemon {
namespace {

absl::StatusOr<std::string> Settle(registry::Registry* registry, const registry::CutShortLoad& load, bool choose) {
  const std::string name = StrCat(load.model, "/", load.version);
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry->Get(load.model));
  TANDEM_ASSIGN_OR_RETURN(registry::Version version, registry->GetVersion(load.model, load.version));
  const bool open = choose && version.format == engine::kOnnx && LeavesEngineOpen(ConfigOf(model));
  const std::string reason =
      StrCat("the server ended while it loaded the version; 'tandem models measure ", name, "' tries it again");
  EngineReport report = EngineReportFromJson(version.engine_report);
  if (!open || !HoldBack(load.engine, load.former, reason, &report)) {
    TANDEM_RETURN_IF_ERROR(registry->SetQuarantine(load.model, load.version, true, registry::kCutShort));
    return StrCat("model ", name, " was being loaded by engine '", load.engine,
                  "' when the server ended, and is not loaded again by itself; 'tandem models deploy ", name,
                  "' tries again");
  }
  TANDEM_RETURN_IF_ERROR(registry->SetEngineReport(load.model, load.version, ToJson(report)));
  return StrCat("model ", name, " is served by engine '", report.chosen, "'; engine '", load.engine,
                "' is held back: ", reason);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SettleCutShortLoads(registry::Registry* registry, bool choose) {
  std::vector<std::string> notices;
  for (const registry::CutShortLoad& load : registry->CutShortAtOpen()) {
    TANDEM_ASSIGN_OR_RETURN(std::string notice, Settle(registry, load, choose));
    // Last: until then the next server would do the same again.
    TANDEM_RETURN_IF_ERROR(registry->MarkLoaded(load.model, load.version, ""));
    notices.push_back(std::move(notice));
  }
  return notices;
}

}  // namespace tandem::daemon
