#include "training/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "training/test_data.h"

namespace tandem::training {
namespace {

class EvaluatorTest : public testing::Test {
 protected:
  void SetUp() override {
    auto dataset = data::Open(MakeDataset(folder_.path(), 200, 12), data::Split::kTest);
    ASSERT_TRUE(dataset.ok()) << dataset.status();
    dataset_ = *std::move(dataset);
    auto bytes = graph::MakeModel({.name = "resnet8", .input = {1, 12, 12}, .classes = 3, .seed = 1});
    ASSERT_TRUE(bytes.ok());
    auto graph = graph::Graph::Parse(*std::move(bytes), "test");
    ASSERT_TRUE(graph.ok());
    auto model = Model::Create(*graph, spec::TrainSpec{}, at::kFloat);
    ASSERT_TRUE(model.ok()) << model.status();
    model_.emplace(*std::move(model));
  }

  Evaluation With(int threads) {
    WorkerPool pool(threads);
    return Evaluator(*model_, model_->values(), *dataset_, &pool).Finish({}).value();
  }

  TestFolder folder_;
  std::unique_ptr<data::Dataset> dataset_;
  std::optional<Model> model_;
};

TEST_F(EvaluatorTest, AnyNumberOfThreadsGivesTheSameNumbers) {
  const Evaluation one = With(1), three = With(3);
  EXPECT_EQ(one.samples, dataset_->size());
  EXPECT_EQ(one.loss, three.loss);
  EXPECT_EQ(one.accuracy, three.accuracy);
  EXPECT_GT(one.loss, 0);
}

TEST_F(EvaluatorTest, FillsGapsBesideOtherWorkAndGivesTheSameNumbers) {
  WorkerPool pool(2);
  Evaluator evaluator(*model_, model_->values(), *dataset_, &pool);
  WorkerPool::Work work;
  work.items = 3;  // an odd number on two threads leaves a gap
  work.body = [&](int64_t) { return absl::OkStatus(); };
  for (int step = 0; step < 20; ++step) ASSERT_TRUE(pool.Run(work).ok());
  auto beside = evaluator.Finish({});
  ASSERT_TRUE(beside.ok()) << beside.status();
  EXPECT_EQ(beside->loss, With(1).loss);
}

TEST_F(EvaluatorTest, OneThatIsDroppedLeavesThePoolUsable) {
  WorkerPool pool(2);
  { Evaluator evaluator(*model_, model_->values(), *dataset_, &pool); }
  EXPECT_EQ(Evaluator(*model_, model_->values(), *dataset_, &pool).Finish({}).value().loss, With(1).loss);
}

TEST_F(EvaluatorTest, StopEndsTheWait) {
  WorkerPool pool(1);
  pool.SetGate(0);
  Evaluator evaluator(*model_, model_->values(), *dataset_, &pool);
  pool.Wake();
  EXPECT_TRUE(absl::IsCancelled(evaluator.Finish([&] { pool.Stop(); }).status()));
}

}  // namespace
}  // namespace tandem::training
