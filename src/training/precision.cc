#include "training/precision.h"

#include <ATen/autocast_mode.h>

#include "base/files.h"

namespace tandem::training {

bool HasBf16(std::string_view cpuinfo) {
  return cpuinfo.find("avx512_bf16") != std::string_view::npos || cpuinfo.find("amx_bf16") != std::string_view::npos;
}

Precision ResolvePrecision(std::string_view name) {
  if (name == "auto") {
    auto cpuinfo = ReadFile("/proc/cpuinfo");
    name = cpuinfo.ok() && HasBf16(*cpuinfo) ? "bf16" : "fp32";
  }
  return {.name = std::string(name), .weights = name == "fp64" ? at::kDouble : at::kFloat, .bf16 = name == "bf16"};
}

AutocastScope::AutocastScope(bool on) : on_(on) {
  if (!on_) return;
  at::autocast::set_autocast_cache_enabled(false);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, true);
}

AutocastScope::~AutocastScope() {
  if (on_) at::autocast::set_autocast_enabled(at::kCPU, false);
}

}  // namespace tandem::training
