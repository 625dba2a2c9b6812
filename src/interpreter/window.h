#pragma once
// The geometry that Conv and the pools share: pads, auto_pad, ceil_mode.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "interpreter/node.h"

namespace tandem::interpreter {

enum class AutoPad { kNotSet, kSameUpper, kSameLower, kValid };

// A sliding window as its node describes it. Empty vectors stand for ONNX's defaults.
struct WindowAttributes {
  std::vector<int64_t> kernel, strides, dilations, pads;
  AutoPad auto_pad = AutoPad::kNotSet;
  bool ceil_mode = false;

  static WindowAttributes Read(Node& node);
};

// The window placed on an input: every list has one entry per spatial axis.
struct Window {
  std::vector<int64_t> kernel, strides, dilations;
  std::vector<int64_t> begin, end;  // pads that count as padding
  std::vector<int64_t> output;      // sizes
  std::vector<int64_t> extent_end;  // padding (negative: cropping) at the end so that the windows fit exactly

  bool Symmetric() const { return begin == end; }
  bool Dilated() const;
  // LibTorch's pools take pads up to half the kernel.
  bool PadsWithinHalfKernel() const;
};

// Throws c10::Error when the lists do not fit the input, or where the output would be empty.
Window PlaceWindow(const WindowAttributes& attributes, const std::vector<int64_t>& kernel, const at::Tensor& input);

// The input padded with `value`, `begin` and `end` per spatial axis; negative pads crop.
at::Tensor PadSpatial(const at::Tensor& input, const std::vector<int64_t>& begin, const std::vector<int64_t>& end,
                      double value);

}  // namespace tandem::interpreter
