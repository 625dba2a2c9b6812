#include "interpreter/dropout.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define TANDEM_FOR_EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define TANDEM_FOR_EACH_CPU
#endif

namespace tandem::interpreter {
namespace {

constexpr int kLanes = 16;  // blocks of four numbers that are computed together

struct PhiloxKey {
  uint32_t key0, key1;
  uint32_t sample, step0, step1;
};

// The numbers of kLanes blocks of a sample: the same work in each lane, so that it becomes vector code. The first words
// of all blocks come first, then the second words, and so on.
TANDEM_FOR_EACH_CPU
void PhiloxBlocks(const PhiloxKey& key, uint32_t first_block, uint32_t* out) {
  uint32_t c0[kLanes], c1[kLanes], c2[kLanes], c3[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    c0[i] = first_block + static_cast<uint32_t>(i);
    c1[i] = key.sample;
    c2[i] = key.step0;
    c3[i] = key.step1;
  }
  uint32_t k0 = key.key0;
  uint32_t k1 = key.key1;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kLanes; ++i) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c0[i];
      const uint64_t p1 = uint64_t{0xCD9E8D57} * c2[i];
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = static_cast<uint32_t>(p1);
      c3[i] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  for (int i = 0; i < kLanes; ++i) {
    out[i] = c0[i];
    out[kLanes + i] = c1[i];
    out[2 * kLanes + i] = c2[i];
    out[3 * kLanes + i] = c3[i];
  }
}

TANDEM_FOR_EACH_CPU
void ScalesOf(const uint32_t* numbers, int64_t count, uint32_t keep, float scale, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = numbers[i] < keep ? scale : 0.0F;
}

// Spreads the bits of a seed (the finaliser of SplitMix64), so that near seeds give far keys.
uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// The scale of each element, 0 where it is dropped. Rows are samples where the first axis can be cut by the batch.
at::Tensor Scales(const at::Tensor& x, double ratio, uint64_t node_key, const RunState& state) {
  const int64_t rows = x.dim() == 0 ? 1 : x.size(0);
  const int64_t samples = state.batch > 0 && rows % state.batch == 0 ? state.batch : rows;
  const int64_t per_sample = samples == 0 ? 0 : x.numel() / samples;
  at::Tensor scales = at::empty(x.sizes(), at::kFloat);
  auto* out = scales.mutable_data_ptr<float>();
  const double share = std::min((1.0 - ratio) * 4294967296.0, 4294967295.0);
  const auto keep = static_cast<uint32_t>(std::llround(share));
  const float scale = static_cast<float>(1.0 / (1.0 - ratio));
  std::vector<uint32_t> numbers(static_cast<size_t>(per_sample));
  for (int64_t sample = 0; sample < samples; ++sample) {
    SampleNumbers(state.options.seed, state.options.step, node_key, state.options.first_sample + sample, numbers);
    ScalesOf(numbers.data(), per_sample, keep, scale, out + sample * per_sample);
  }
  return scales.to(x.scalar_type()).contiguous(x.suggest_memory_format());
}

}  // namespace

uint64_t DropoutNodeKey(std::string_view output) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : output) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return hash;
}

void SampleNumbers(uint64_t seed, uint64_t step, uint64_t node_key, int64_t sample, std::span<uint32_t> out) {
  const uint64_t key = Mix(seed) ^ node_key;
  const PhiloxKey philox = {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(sample),
                            static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)};
  constexpr size_t kBatch = size_t{4} * kLanes;
  uint32_t block = 0;
  size_t done = 0;
  for (; done + kBatch <= out.size(); done += kBatch, block += kLanes) PhiloxBlocks(philox, block, out.data() + done);
  if (done == out.size()) return;
  uint32_t rest[kBatch];
  PhiloxBlocks(philox, block, rest);
  std::copy_n(rest, out.size() - done, out.begin() + static_cast<std::ptrdiff_t>(done));
}

std::vector<at::Tensor> Dropout(const at::Tensor& x, double ratio, uint64_t node_key, bool wants_mask,
                                const RunState& state) {
  TORCH_CHECK(ratio >= 0 && ratio <= 1, "ratio is ", ratio, ", must be from 0 to 1");
  if (!state.options.training || ratio == 0) {
    if (!wants_mask) return {x};
    return {x, at::ones(x.sizes(), at::kBool)};
  }
  const at::Tensor scales = ratio == 1 ? at::zeros_like(x.detach()) : Scales(x, ratio, node_key, state);
  if (!wants_mask) return {x.mul(scales)};
  return {x.mul(scales), scales.ne(0)};
}

}  // namespace tandem::interpreter
