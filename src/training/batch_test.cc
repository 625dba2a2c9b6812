#include "training/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "base/status.h"

namespace tandem::training {
namespace {

// Sample i holds the number i; its label is i % 3, but for one sample.
class Numbers : public data::Dataset {
 public:
  explicit Numbers(int64_t size, int64_t wrong = -1, int64_t unreadable = -1)
      : size_(size), wrong_(wrong), unreadable_(unreadable) {}
  int64_t size() const override { return size_; }
  const Shape& shape() const override { return shape_; }
  int64_t classes() const override { return 3; }
  absl::Status Get(int64_t index, std::span<float> out, int32_t* label) const override {
    if (index == unreadable_) return InvalidArgument("file of sample ", index, " is broken");
    for (float& value : out) value = static_cast<float>(index);
    *label = index == wrong_ ? 3 : static_cast<int32_t>(index % 3);
    return absl::OkStatus();
  }

 private:
  int64_t size_, wrong_, unreadable_;
  Shape shape_ = {1, 2, 2};
};

Plan PlanOf(int64_t samples, int64_t batch) {
  spec::TrainSpec spec;
  spec.batch = batch;
  return Plan(samples, spec);
}

TEST(ReadBatch, GivesSamplesAndLabelsInTheOrderAsked) {
  const std::vector<int64_t> indices = {4, 2};
  auto batch = ReadBatch(Numbers(5), indices);
  ASSERT_TRUE(batch.ok());
  EXPECT_EQ(batch->images.sizes().vec(), (std::vector<int64_t>{2, 1, 2, 2}));
  EXPECT_EQ(batch->images[0][0][1][1].item<float>(), 4);
  EXPECT_EQ(batch->images[1][0][0][0].item<float>(), 2);
  EXPECT_EQ(batch->labels[0].item<int64_t>(), 1);
}

TEST(ReadBatch, NamesTheSampleWhoseLabelIsOutOfRange) {
  const std::vector<int64_t> indices = {0, 1, 2};
  EXPECT_EQ(MessageOf(ReadBatch(Numbers(5, 1), indices).status()),
            "sample 1 of the data set has label 3, labels must be 0..2: correct the label, or add the data set again");
}

// All bytes of steps 0..5, prepared by `threads` workers.
std::vector<float> BytesWith(int threads) {
  const Numbers dataset(50);
  const Plan plan = PlanOf(50, 20);
  WorkerPool pool(threads);
  BatchLoader loader(dataset, plan, {.flip = true, .crop_padding = 1}, 5, 0, 6, &pool);
  std::vector<float> bytes;
  for (int step = 0; step < 6; ++step) {
    Batch batch = loader.Next({}).value();
    bytes.insert(bytes.end(), batch.images.data_ptr<float>(), batch.images.data_ptr<float>() + batch.images.numel());
    for (int64_t i = 0; i < batch.labels.size(0); ++i) {
      bytes.push_back(static_cast<float>(batch.labels[i].item<int64_t>()));
    }
  }
  return bytes;
}

TEST(BatchLoader, AnyNumberOfThreadsPreparesTheSameBytes) {
  const std::vector<float> one = BytesWith(1);
  EXPECT_EQ(one, BytesWith(2));
  EXPECT_EQ(one, BytesWith(5));
}

TEST(BatchLoader, AnEpochHoldsEachSampleOnceAndBeginsAnywhere) {
  const Numbers dataset(10);
  const Plan plan = PlanOf(10, 4);
  WorkerPool pool(2);
  std::vector<float> seen;
  {
    BatchLoader loader(dataset, plan, {}, 5, 0, 6, &pool);
    for (int step = 0; step < 6; ++step) {
      Batch batch = loader.Next({}).value();
      for (int64_t i = 0; i < batch.images.size(0); ++i) seen.push_back(batch.images[i][0][0][0].item<float>());
    }
  }
  std::vector<float> all(10), epochs[2] = {{seen.begin(), seen.begin() + 10}, {seen.begin() + 10, seen.end()}};
  std::iota(all.begin(), all.end(), 0.0f);
  EXPECT_THAT(epochs[0], testing::UnorderedElementsAreArray(all));
  EXPECT_THAT(epochs[1], testing::UnorderedElementsAreArray(all));
  EXPECT_NE(epochs[0], epochs[1]);
  BatchLoader loader(dataset, plan, {}, 5, 4, 6, &pool);
  EXPECT_EQ(loader.Next({}).value().images[0][0][0][0].item<float>(), seen[14]);
}

TEST(BatchLoader, AnUnreadableSampleIsTheErrorOfItsBatch) {
  const Numbers dataset(40, -1, 2);
  const Plan plan = PlanOf(40, 40);
  WorkerPool pool(3);
  BatchLoader loader(dataset, plan, {}, 5, 0, 10, &pool);
  EXPECT_EQ(MessageOf(loader.Next({}).status()), "file of sample 2 is broken");
  EXPECT_EQ(MessageOf(loader.Next({}).status()), "file of sample 2 is broken");
}

TEST(BatchLoader, AWrongLabelIsTheErrorOfItsBatch) {
  const Numbers dataset(40, 7);
  const Plan plan = PlanOf(40, 40);
  WorkerPool pool(2);
  BatchLoader loader(dataset, plan, {}, 5, 0, 10, &pool);
  EXPECT_THAT(std::string(MessageOf(loader.Next({}).status())),
              testing::HasSubstr("sample 7 of the data set has label 3"));
}

TEST(BatchLoader, StopEndsTheWaitForABatch) {
  const Numbers dataset(40);
  const Plan plan = PlanOf(40, 40);
  WorkerPool pool(2);
  pool.SetGate(0);  // nobody prepares anything
  BatchLoader loader(dataset, plan, {}, 5, 0, 10, &pool);
  std::thread stopper([&] { pool.Stop(); });
  EXPECT_TRUE(absl::IsCancelled(loader.Next({}).status()));
  stopper.join();
}

TEST(BatchLoader, EndsWithBatchesThatNobodyAskedFor) {
  const Numbers dataset(400);
  const Plan plan = PlanOf(400, 200);
  WorkerPool pool(2);
  BatchLoader loader(dataset, plan, {}, 5, 0, 10, &pool);
}

TEST(BatchLoader, GivesNoBatchAfterTheLastStep) {
  const Numbers dataset(4);
  const Plan plan = PlanOf(4, 2);
  WorkerPool pool(1);
  BatchLoader loader(dataset, plan, {}, 5, 0, 1, &pool);
  EXPECT_TRUE(loader.Next({}).ok());
  EXPECT_FALSE(loader.Next({}).ok());
}

}  // namespace
}  // namespace tandem::training
