#include "training/batch.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "base/status.h"

namespace tandem::training {
namespace {

std::span<float> Sample(const Batch& batch, int64_t index) {
  int64_t size = batch.images.numel() / batch.images.size(0);
  return {batch.images.data_ptr<float>() + index * size, static_cast<size_t>(size)};
}

}  // namespace

absl::StatusOr<Batch> ReadBatch(const data::Dataset& dataset, std::span<const int64_t> indices) {
  const int64_t count = static_cast<int64_t>(indices.size());
  std::vector<int64_t> shape = {count};
  shape.insert(shape.end(), dataset.shape().begin(), dataset.shape().end());
  Batch batch{at::empty(shape, at::kFloat), at::empty({count}, at::kLong)};
  int64_t* labels = batch.labels.data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) {
    int32_t label = 0;
    TANDEM_RETURN_IF_ERROR(dataset.Get(indices[i], Sample(batch, i), &label));
    if (label < 0 || label >= dataset.classes()) {
      return InvalidArgument("sample ", indices[i], " of the data set has label ", label, ", labels must be 0..",
                             dataset.classes() - 1, ": correct the label, or add the data set again");
    }
    labels[i] = label;
  }
  return batch;
}

BatchLoader::BatchLoader(const data::Dataset& dataset, const Plan& plan, const data::Augmentation& augmentation,
                         uint64_t seed, int64_t first_step)
    : dataset_(dataset),
      plan_(plan),
      augmentation_(augmentation),
      seed_(seed),
      first_step_(first_step),
      thread_([this] { Loop(); }) {}

BatchLoader::~BatchLoader() {
  ready_.Close();
  thread_.join();
}

absl::StatusOr<Batch> BatchLoader::Next() {
  auto batch = ready_.Pop();
  if (!batch) return Internal("no batch after a batch that could not be read");
  return **std::move(batch);
}

void BatchLoader::Loop() {
  at::set_num_threads(1);
  for (int64_t step = first_step_;; ++step) {
    auto batch =
        std::make_unique<absl::StatusOr<Batch>>(CatchToStatus("reading the data set", [&] { return Prepare(step); }));
    bool failed = !batch->ok();
    if (!ready_.Push(std::move(batch))) return;
    if (failed) return ready_.Close();
  }
}

absl::StatusOr<Batch> BatchLoader::Prepare(int64_t step) const {
  Plan::Position position = plan_.At(step);
  data::Permutation permutation(seed_, static_cast<uint64_t>(position.epoch), plan_.samples());
  std::vector<int64_t> indices(position.count);
  for (int64_t i = 0; i < position.count; ++i) indices[i] = permutation(position.first + i);
  TANDEM_ASSIGN_OR_RETURN(Batch batch, ReadBatch(dataset_, indices));
  for (int64_t i = 0; i < position.count; ++i) {
    data::Augment(augmentation_, dataset_.shape(), seed_, static_cast<uint64_t>(position.epoch), indices[i],
                  Sample(batch, i));
  }
  return batch;
}

}  // namespace tandem::training
