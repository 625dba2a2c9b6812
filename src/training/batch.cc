#include "training/batch.h"

#include <ATen/ops/empty.h>

#include <numeric>

#include "base/status.h"

namespace tandem::training {
namespace {

Batch EmptyBatch(const data::Dataset& dataset, int64_t count) {
  std::vector<int64_t> shape = {count};
  shape.insert(shape.end(), dataset.shape().begin(), dataset.shape().end());
  return {at::empty(shape, at::kFloat), at::empty({count}, at::kLong)};
}

// Where a batch's samples lie: what several threads fill side by side.
struct View {
  float* images = nullptr;
  int64_t* labels = nullptr;
  int64_t size = 0;  // floats a sample
  std::span<float> Sample(int64_t i) const { return {images + i * size, static_cast<size_t>(size)}; }
};

View ViewOf(Batch* batch) {
  const int64_t count = batch->labels.size(0);
  return {batch->images.data_ptr<float>(), batch->labels.data_ptr<int64_t>(),
          count > 0 ? batch->images.numel() / count : 0};
}

absl::Status ReadSample(const data::Dataset& dataset, int64_t index, const View& view, int64_t i) {
  int32_t label = 0;
  TANDEM_RETURN_IF_ERROR(dataset.Get(index, view.Sample(i), &label));
  if (label < 0 || label >= dataset.classes()) {
    return InvalidArgument("sample ", index, " of the data set has label ", label, ", labels must be 0..",
                           dataset.classes() - 1, ": correct the label, or add the data set again");
  }
  view.labels[i] = label;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Batch> ReadBatch(const data::Dataset& dataset, std::span<const int64_t> indices) {
  Batch batch = EmptyBatch(dataset, static_cast<int64_t>(indices.size()));
  const View view = ViewOf(&batch);
  for (size_t i = 0; i < indices.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(ReadSample(dataset, indices[i], view, static_cast<int64_t>(i)));
  }
  return batch;
}

// One batch on its way. The filler is last: its pieces use the rest.
struct BatchLoader::Preparing {
  Preparing(const BatchLoader& loader, int64_t step)
      : position(loader.plan_.At(step)),
        permutation(loader.seed_, static_cast<uint64_t>(position.epoch), loader.plan_.samples()),
        batch(EmptyBatch(loader.dataset_, position.count)),
        view(ViewOf(&batch)),
        results((position.count + kPiece - 1) / kPiece),
        filler(loader.pool_, WorkerPool::Filler::Urgency::kSoon, static_cast<int64_t>(results.size()),
               [this, &loader](int64_t piece) {
                 results[piece] = CatchToStatus("reading the data set", [&] { return Prepare(loader, piece); });
               }) {}

  absl::Status Prepare(const BatchLoader& loader, int64_t piece) {
    const int64_t end = std::min(position.count, (piece + 1) * kPiece);
    for (int64_t i = piece * kPiece; i < end; ++i) {
      const int64_t index = permutation(position.first + i);
      TANDEM_RETURN_IF_ERROR(ReadSample(loader.dataset_, index, view, i));
      data::Augment(loader.augmentation_, loader.dataset_.shape(), loader.seed_, static_cast<uint64_t>(position.epoch),
                    index, view.Sample(i));
    }
    return absl::OkStatus();
  }

  const Plan::Position position;
  const data::Permutation permutation;
  Batch batch;
  const View view;
  std::vector<absl::Status> results;  // one a piece, each written by who did it
  WorkerPool::Filler filler;
};

BatchLoader::BatchLoader(const data::Dataset& dataset, const Plan& plan, const data::Augmentation& augmentation,
                         uint64_t seed, int64_t first_step, int64_t end_step, WorkerPool* pool)
    : dataset_(dataset),
      plan_(plan),
      augmentation_(augmentation),
      seed_(seed),
      end_step_(end_step),
      pool_(pool),
      next_step_(first_step) {
  ReadAhead();
}

BatchLoader::~BatchLoader() = default;

void BatchLoader::ReadAhead() {
  while (ahead_.size() < kAhead && next_step_ < end_step_) {
    ahead_.push_back(std::make_unique<Preparing>(*this, next_step_++));
  }
}

absl::StatusOr<Batch> BatchLoader::Next(const std::function<void()>& on_wake) {
  if (ahead_.empty()) ReadAhead();
  if (ahead_.empty()) return Internal("no batch after the last step");
  Preparing& first = *ahead_.front();
  TANDEM_RETURN_IF_ERROR(pool_->Await(first.filler, on_wake));
  for (const absl::Status& result : first.results) TANDEM_RETURN_IF_ERROR(result);
  Batch batch = std::move(first.batch);
  ahead_.pop_front();
  return batch;
}

}  // namespace tandem::training
