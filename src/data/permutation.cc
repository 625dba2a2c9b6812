#include <algorithm>
#include <bit>

#include "data/dataset.h"

namespace tandem::data {
namespace {

// A 32-bit finaliser (the multipliers of MurmurHash3's fmix32): every input bit reaches every output bit.
uint32_t Mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x85EBCA6B;
  x ^= x >> 13;
  x *= 0xC2B2AE35;
  return x ^ (x >> 16);
}

}  // namespace

Permutation::Permutation(uint64_t seed, uint64_t epoch, int64_t n) : n_(n) {
  // The smallest domain of an even number of bits that holds n: below 4n, so that a walk takes < 4 steps on average.
  int bits = n > 1 ? std::bit_width(static_cast<uint64_t>(n - 1)) : 1;
  half_bits_ = (bits + 1) / 2;
  RandomStream stream(seed, Purpose::kShuffle, epoch);
  std::generate(std::begin(keys_), std::end(keys_), [&] { return stream.Next(); });
}

int64_t Permutation::operator()(int64_t index) const {
  const uint32_t mask = static_cast<uint32_t>((uint64_t{1} << half_bits_) - 1);
  uint64_t value = static_cast<uint64_t>(index);
  do {
    uint32_t left = static_cast<uint32_t>(value >> half_bits_), right = static_cast<uint32_t>(value) & mask;
    for (uint32_t key : keys_) {
      uint32_t next = left ^ (Mix(right ^ key) & mask);
      left = right;
      right = next;
    }
    value = (uint64_t{left} << half_bits_) | right;
  } while (value >= static_cast<uint64_t>(n_));
  return static_cast<int64_t>(value);
}

}  // namespace tandem::data
