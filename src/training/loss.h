#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tandem::training {

// Cross-entropy of logits [n, classes] (any float type; computed in float32 at least) against labels [n], summed over
// the samples. Label smoothing as torch.nn.CrossEntropyLoss. Divided by the size of the whole batch, the gradients of
// its micro-batches add up to the gradient of the batch's mean loss.
at::Tensor CrossEntropySum(const at::Tensor& logits, const at::Tensor& labels, double label_smoothing);

// Samples whose largest logit is at the label.
int64_t CountCorrect(const at::Tensor& logits, const at::Tensor& labels);

}  // namespace tandem::training
