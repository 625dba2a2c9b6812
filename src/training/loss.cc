#include "training/loss.h"

#include <ATen/core/Reduction.h>
#include <ATen/ops/cross_entropy_loss.h>

namespace tandem::training {

at::Tensor CrossEntropySum(const at::Tensor& logits, const at::Tensor& labels, double label_smoothing) {
  at::Tensor wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  return at::cross_entropy_loss(wide, labels, /*weight=*/{}, at::Reduction::Sum, /*ignore_index=*/-100,
                                label_smoothing);
}

int64_t CountCorrect(const at::Tensor& logits, const at::Tensor& labels) {
  return logits.argmax(1).eq(labels).sum().item<int64_t>();
}

}  // namespace tandem::training
