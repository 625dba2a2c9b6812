#pragma once
// Tensors between the host's memory and ONNX Runtime. All throw.
#include "runtime.h"
#include "tandem/engine.h"

namespace tandem_onnxruntime {

// Bytes of one element; 0 for strings and for types that tandem does not have.
size_t ByteSize(tandem_dtype dtype);
inline constexpr tandem_dtype kStringType = 8;

// A view of the input, or for strings a copy. `name` is for messages.
Value ToValue(const tandem_input& input, const char* name);

// Copies an output into memory of the host.
void Give(OrtValue* value, int32_t index, const char* name, const tandem_output& output);

}  // namespace tandem_onnxruntime
