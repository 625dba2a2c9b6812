#pragma once
// The sharing of the machine for /metrics: the rung, run delays, shares, the gate, disk areas.
#include <vector>

#include "daemon/gate_record.h"
#include "daemon/governor.h"
#include "daemon/housekeeper.h"
#include "isolation/isolation.h"
#include "telemetry/metrics.h"

namespace tandem::daemon {

void AddSharingMetrics(const isolation::Isolation& isolation, const Governor& governor, const GateRecord& gate,
                       const Housekeeper& housekeeper, std::vector<MetricFamily>* families);

}  // namespace tandem::daemon
