#pragma once
// The learning rate as a pure function of the step, so that resuming needs no state.
#include <cstdint>

#include "spec/train_spec.h"

namespace tandem::training {

// The rate for `step` (0-based) of `steps`. `peak` is optimizer.lr.
//   constant   peak after a linear warm-up
//   cosine     warm-up, then half a cosine to final_fraction (Loshchilov & Hutter 2017; PyTorch's CosineAnnealingLR)
//   one_cycle  cosine up from peak/25 over warmup_fraction of the steps, cosine down to final_fraction
//              (Smith & Topin 2017; the two phases of PyTorch's OneCycleLR, without its momentum cycle)
// A warm-up of w steps takes peak * (step + 1) / (w + 1): no step is lost to a rate of zero.
double LearningRate(const spec::ScheduleSpec& schedule, double peak, int64_t step, int64_t steps);

}  // namespace tandem::training
