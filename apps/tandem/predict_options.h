#pragma once
#include <string>

#include "absl/status/status.h"

namespace tandem::cli {

struct PredictOptions {
  std::string model, image, json_input, dataset;
  bool json = false;       // --json was given
  std::string json_value;  // what stood behind it
};

// `--json` asks for JSON output everywhere; here a word behind it is the input file, and the model where no other word
// is (`predict --json MODEL --image FILE`). A usage error unless there is one model and one input.
absl::Status SettlePredictOptions(PredictOptions* options);

}  // namespace tandem::cli
