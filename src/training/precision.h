#pragma once
// In which number format a job computes.
#include <c10/core/ScalarType.h>

#include <string>
#include <string_view>

namespace tandem::training {

struct Precision {
  std::string name;                     // fp32, bf16, fp64
  at::ScalarType weights = at::kFloat;  // of weights, gradients and optimiser state
  bool bf16 = false;                    // convolutions and matrix products in bfloat16 (autocast)
};

// "auto" is bf16 where the processor multiplies bfloat16 in hardware, else fp32.
Precision ResolvePrecision(std::string_view name);

// Whether these flags of /proc/cpuinfo hold AVX512-BF16 or AMX-BF16.
bool HasBf16(std::string_view cpuinfo);

// Switches autocast to bfloat16 on for the calling thread while it lives. The cache of converted weights is off: it is
// shared between threads and would keep weights from before the last step.
class AutocastScope {
 public:
  explicit AutocastScope(bool on);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  const bool on_;
};

}  // namespace tandem::training
