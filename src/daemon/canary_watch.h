#pragma once
// Takes a canary out of service by itself once its figures are out of the bounds that its model's configuration sets.
#include "daemon/model_catalog.h"
#include "serving/serving.h"

namespace tandem::daemon {

// Thread-compatible: stepped by the control loop.
class CanaryWatch {
 public:
  // Both outlive it.
  CanaryWatch(ModelCatalog* catalog, const serving::Serving* serving) : catalog_(catalog), serving_(serving) {}

  // Judges every canary in force; meant to be called about once a second. A canary that is rolled back is recorded in
  // the model's events with its reason (who: "tandem"), and no request goes there any more when Step returns.
  void Step();

 private:
  ModelCatalog* const catalog_;
  const serving::Serving* const serving_;
};

}  // namespace tandem::daemon
