#pragma once
// The extensions of Open Inference Protocol v2 that work here. Clients switch on these names, so nothing else stands in
// the list; all doors give the same.
#include <string_view>

namespace tandem::api::v2 {

inline constexpr std::string_view kExtensions[] = {"binary_tensor_data",
                                                   "classification",
                                                   "sequence",
                                                   "model_repository",
                                                   "model_repository(unload_dependents)",
                                                   "schedule_policy",
                                                   "model_configuration",
                                                   "parameters",
                                                   "statistics",
                                                   "system_shared_memory",
                                                   "logging"};

}  // namespace tandem::api::v2
