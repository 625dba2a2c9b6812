#pragma once
// OpenVINO's one core of this process, and what a model is compiled with.
#include <string>

#include "openvino/runtime/core.hpp"
#include "tandem/engine.h"

namespace tandem_openvino {

// Never destroyed: its threads may outlive main.
ov::Core& SharedCore();

// The device that the options name: "CPU", "GPU", "GPU.1", "NPU", or "AUTO" (also with candidates, "AUTO:GPU,CPU").
// Throws std::invalid_argument, naming those there are, for one that is not.
std::string Device(const tandem_option* options);

// Settings for this device; those that it does not know are left out. Throws std::invalid_argument.
ov::AnyMap Config(const tandem_option* options, const std::string& device);

}  // namespace tandem_openvino
