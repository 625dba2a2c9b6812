#pragma once
// Dropout whose mask comes from numbers that name their element, so that it is the same however a batch is cut into
// micro-batches and whichever thread runs them.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "interpreter/operators.h"

namespace tandem::interpreter {

// Names a node in the key of its random numbers: FNV-1a of its first output.
uint64_t DropoutNodeKey(std::string_view output);

// Uniform 32-bit numbers of one sample, by Philox 4x32-10 (Salmon et al. 2011): the key is (seed, node), the counter
// (block, sample, step).
void SampleNumbers(uint64_t seed, uint64_t step, uint64_t node_key, int64_t sample, std::span<uint32_t> out);

// {y} or {y, mask}. Without training, y is x. Elements whose number is < 1 - ratio stay, times 1 / (1 - ratio).
std::vector<at::Tensor> Dropout(const at::Tensor& x, double ratio, uint64_t node_key, bool wants_mask,
                                const RunState& state);

}  // namespace tandem::interpreter
