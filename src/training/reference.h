#pragma once
// The reference engine of `tandem model run`: the trainer's interpreter, forward only.
#include <filesystem>
#include <string>

#include "absl/status/status.h"

namespace tandem::training {

struct ReferenceRun {
  std::filesystem::path model;   // ONNX file
  std::filesystem::path inputs;  // .npz (by input name), or a folder of input_<N>.pb (by position)
  std::filesystem::path out;     // .npz, by output name
  bool logits = false;           // leave out a final Softmax
};

absl::Status RunReference(const ReferenceRun& run);

}  // namespace tandem::training
