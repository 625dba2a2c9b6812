#pragma once
// The text at the head of a .npy file: a Python dictionary with three keys.
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/tensor.h"

namespace tandem::data {

struct NpyHeader {
  std::string descr;  // "<f4"
  bool fortran_order = false;
  Shape shape;
};

absl::StatusOr<NpyHeader> ParseNpyHeader(std::string_view text);

}  // namespace tandem::data
