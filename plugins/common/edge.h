#pragma once
// What a plug-in needs at its C edge, whatever its runtime. Header only: each plug-in stays one library.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/engine.h"

namespace tandem_plugin {

// What last_error gives on this thread.
inline thread_local std::string last_error;

// The value of the option `key`.
inline std::string Option(const tandem_option* options, std::string_view key, const char* fallback) {
  for (; options != nullptr && options->key != nullptr; ++options) {
    if (options->key == key) return options->value;
  }
  return fallback;
}

// Threads of one instance; 1 where the host does not say. Throws std::invalid_argument.
inline int Threads(const tandem_option* options) {
  constexpr int kMost = 64;
  const std::string text = Option(options, "threads", "1");
  int threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (error != std::errc() || end != text.data() + text.size() || threads < 1 || threads > kMost) {
    throw std::invalid_argument("threads is '" + text + "', must be a number from 1 to 64");
  }
  return threads;
}

// Whether an input has a dimension of any size. The host cannot check such sizes against each other or against the
// model's inside, so where a run fails, the request is to blame.
inline bool HasFreeSizes(const std::vector<tandem_signature>& inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [](const tandem_signature& input) {
    return std::find(input.shape, input.shape + input.rank, -1) != input.shape + input.rank;
  });
}

// Runs requests one after another: run_one(&request) gives the code of each and sets last_error. The first failure is
// the result, and its text stays.
template <typename RunOne>
tandem_code RunEach(tandem_request* requests, int32_t count, bool has_free_sizes, RunOne run_one) {
  tandem_code result = TANDEM_OK;
  std::string error;
  for (int32_t i = 0; i < count; ++i) {
    requests[i].code = run_one(&requests[i]);
    if (has_free_sizes && requests[i].code == TANDEM_INTERNAL) requests[i].code = TANDEM_INVALID_ARGUMENT;
    if (requests[i].code != TANDEM_OK && result == TANDEM_OK) {
      result = requests[i].code;
      error = last_error;
    }
  }
  if (result != TANDEM_OK) last_error = error;
  return result;
}

}  // namespace tandem_plugin
