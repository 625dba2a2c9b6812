#pragma once
// The policies behind MakePolicy, one file each.
#include <memory>

#include "scheduling/policy.h"

namespace tandem::scheduling {

std::unique_ptr<Policy> MakeLatencyFirst();
std::unique_ptr<Policy> MakeWindows();
std::unique_ptr<Policy> MakeStaticSplit();

}  // namespace tandem::scheduling
