#pragma once
// The keys of a training spec: what train_spec.cc reads and writes.
#include "spec/fields.h"
#include "spec/train_spec.h"

namespace tandem::spec {

const FieldTable<TrainSpec>& TrainFields();

}  // namespace tandem::spec
