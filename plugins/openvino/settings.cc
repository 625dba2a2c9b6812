#include "settings.h"

#include <algorithm>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "common/edge.h"
#include "openvino/runtime/properties.hpp"

namespace tandem_openvino {
namespace {

constexpr std::string_view kAuto = "AUTO";

// "GPU" also means "GPU.0".
bool IsThere(const std::string& device, const std::vector<std::string>& devices) {
  return std::any_of(devices.begin(), devices.end(),
                     [&](const std::string& there) { return there == device || there.starts_with(device + "."); });
}

ov::element::Type Precision(const tandem_option* options) {
  const std::string name = tandem_plugin::Option(options, "precision", "f32");
  if (name == "f32") return ov::element::f32;
  if (name == "bf16") return ov::element::bf16;
  if (name == "f16") return ov::element::f16;
  throw std::invalid_argument("precision '" + name + "' is none of f32, bf16, f16");
}

}  // namespace

ov::Core& SharedCore() {
  static auto* core = new ov::Core();
  return *core;
}

std::string Device(const tandem_option* options) {
  std::string device = tandem_plugin::Option(options, "device", "CPU");
  if (device == "CPU" || device == kAuto) return device;
  const std::vector<std::string> devices = SharedCore().get_available_devices();
  bool known = IsThere(device, devices);
  if (device.starts_with("AUTO:")) {
    known = true;
    for (size_t at = kAuto.size(); at != std::string::npos;) {
      const size_t next = device.find(',', at + 1);
      known = known && IsThere(device.substr(at + 1, next == std::string::npos ? next : next - at - 1), devices);
      at = next;
    }
  }
  if (known) return device;
  std::string list;
  for (const std::string& there : devices) list += there + ", ";
  throw std::invalid_argument("device '" + device + "' is not there: OpenVINO finds " + list + "and takes AUTO");
}

// With one thread there is no stream: infer() then runs wholly on its caller. (With one stream of one thread it would
// too, but OpenVINO 2026.4 drops what a run throws there and leaves the outputs of the run before.) No pinning:
// OpenVINO would put every instance on the same core. f32 is said, because processors with bf16 units would take bf16
// by themselves.
ov::AnyMap Config(const tandem_option* options, const std::string& device) {
  const int threads = tandem_plugin::Threads(options);
  ov::AnyMap config = {ov::hint::inference_precision(Precision(options)), ov::inference_num_threads(threads),
                       ov::num_streams(threads == 1 && device == "CPU" ? 0 : 1), ov::hint::enable_cpu_pinning(false)};
  if (device == "CPU") return config;
  const auto supported = SharedCore().get_property(device, ov::supported_properties);
  std::erase_if(config, [&](const auto& setting) {
    return std::find(supported.begin(), supported.end(), setting.first) == supported.end();
  });
  return config;
}

}  // namespace tandem_openvino
