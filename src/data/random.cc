#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/dataset.h"
#include "data/philox.h"

namespace tandem::data {
namespace {

uint32_t Low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t High(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

}  // namespace

PhiloxCounter Philox(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    uint64_t even = uint64_t{0xD2511F53} * counter[0];
    uint64_t odd = uint64_t{0xCD9E8D57} * counter[2];
    counter = {High(odd) ^ counter[1] ^ key[0], Low(odd), High(even) ^ counter[3] ^ key[1], Low(even)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// A block has 128 bits of counter and 64 of key, less than what names a stream: (seed, purpose, b) is first hashed to
// the key, `a` and the block's number are the counter.
RandomStream::RandomStream(uint64_t seed, Purpose purpose, uint64_t a, uint64_t b)
    : counter_{0, 0, Low(a), High(a)}, block_{} {
  PhiloxCounter mixed = Philox({static_cast<uint32_t>(purpose), 0x74616E64, Low(b), High(b)}, {Low(seed), High(seed)});
  key_[0] = mixed[0];
  key_[1] = mixed[1];
}

void RandomStream::NextBlock() {
  PhiloxCounter block = Philox({counter_[0], counter_[1], counter_[2], counter_[3]}, {key_[0], key_[1]});
  std::copy(block.begin(), block.end(), block_);
  if (++counter_[0] == 0) ++counter_[1];
  used_ = 0;
}

// Lemire, "Fast random integer generation in an interval" (2019).
uint32_t RandomStream::Below(uint32_t bound) {
  uint64_t product = uint64_t{Next()} * bound;
  if (Low(product) < bound) {
    uint32_t threshold = (0u - bound) % bound;
    while (Low(product) < threshold) product = uint64_t{Next()} * bound;
  }
  return High(product);
}

double RandomStream::Uniform() {
  uint64_t high = Next() >> 5, low = Next() >> 6;
  return static_cast<double>((high << 26) | low) * 0x1p-53;
}

// Box and Muller (1958); 1 - u keeps the logarithm's argument above 0.
double RandomStream::Normal() {
  double radius = std::sqrt(-2.0 * std::log(1.0 - Uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * Uniform());
}

}  // namespace tandem::data
