#pragma once
// Between the project's plain memory, ONNX's numbers, and LibTorch's tensors.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/tensor.h"

namespace tandem::interpreter {

// nullopt for types that LibTorch has none for (strings).
std::optional<at::ScalarType> ToScalarType(DType dtype);
// The same, where float32 stands for the program's float type.
std::optional<at::ScalarType> ToScalarType(DType dtype, at::ScalarType float_type);

// A tensor of its own with this content. REQUIRES: bytes fit dtype and shape; dtype has a scalar type.
at::Tensor CopyToTensor(DType dtype, const Shape& shape, std::string_view bytes);

// The elements of an integer tensor: shapes, axes, pads. Throws c10::Error on other types and on absurd sizes.
std::vector<int64_t> ToInts(const at::Tensor& tensor);
at::Tensor FromInts(const std::vector<int64_t>& values);

// The tensor in NHWC memory order, also where LibTorch would take its strides for NCHW (one channel). 4-d only.
at::Tensor ToChannelsLast(const at::Tensor& tensor);

// Counts negative axes from the end. Throws c10::Error when out of range.
int64_t NormalAxis(int64_t axis, int64_t rank);
std::vector<int64_t> NormalAxes(std::vector<int64_t> axes, int64_t rank);

}  // namespace tandem::interpreter
