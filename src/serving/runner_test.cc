// The data plane of a version: what runs at once, what is merged, in which order, on how many instances.
#include "serving/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "serving/testing.h"

namespace tandem::serving {
namespace {

using testing::Call;
using testing::Copy;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kMs;
using testing::Merging;
using testing::Message;
using testing::Served;

using RunnerTest = testing::FunctionTest;

TEST_F(RunnerTest, ALoneRequestRunsAtOnceWhereNothingIsMerged) {
  Served model = Serve({});
  ASSERT_TRUE(model.made.ok()) << model.made.status();
  cost_ms_ = 3;
  Call call({1, 2});
  model->Submit(&call.request);
  ASSERT_TRUE(call.done());
  EXPECT_TRUE(call.request.status.ok()) << call.request.status;
  EXPECT_THAT(call.Answer(), ElementsAre(1, 2));
  EXPECT_EQ(call.request.queue_ns, 0);
  EXPECT_EQ(call.request.compute_ns, 3 * kMs);
  EXPECT_EQ(call.request.rows, 2);
  EXPECT_FALSE(model.plane->executor.RunOne());
}

TEST_F(RunnerTest, RowsWithoutBytesDoNotMakeTheSumsWrap) {
  Served model = Serve({});
  Call absurd({}, {int64_t{1} << 62, 0}), few({}, {5, 0});
  for (Call* call : {&absurd, &few}) {
    model->Submit(&call->request);
    ASSERT_TRUE(call->done());
    EXPECT_TRUE(call->request.status.ok()) << call->request.status;
  }
  EXPECT_EQ(absurd.request.rows, 4096);
  EXPECT_EQ(few.request.rows, 5);
}

TEST_F(RunnerTest, ModelsOfLesserUrgencyWaitUntilTheDoorHasReadAll) {
  DataPlane plane(0, &clock_);
  spec::ModelConfig urgent;
  urgent.priority = 1;
  Served low({}, Noting(), &clock_, &plane), high(urgent, Noting(), &clock_, &plane);
  Call first({1}), second({2}), third({3});
  low->Submit(&first.request);
  EXPECT_FALSE(first.done());
  high->Submit(&second.request);
  EXPECT_TRUE(second.done()) << "nothing is more urgent";
  low->Submit(&third.request);
  while (plane.executor.RunOne()) {
  }
  EXPECT_TRUE(first.done() && third.done());
  EXPECT_LT(first.order, third.order);
}

TEST_F(RunnerTest, ARequestDoesNotOvertakeOneOfTheFormerVersionThatCouldRunNow) {
  DataPlane plane(0, &clock_);
  Served former({}, Noting(), &clock_, &plane), next({}, Noting(), &clock_, &plane);
  Call waits({1}), comes({2}), follows({3});
  former->SubmitFromAfar(&waits.request);  // waits for a thread alone
  clock_.AdvanceMillis(1);
  next->Submit(&comes.request);
  EXPECT_FALSE(comes.done());
  clock_.AdvanceMillis(1);
  next->Submit(&follows.request);
  while (plane.executor.RunOne()) {
  }
  EXPECT_TRUE(waits.done() && comes.done() && follows.done());
  EXPECT_LT(waits.order, comes.order);
  EXPECT_LT(comes.order, follows.order);
  Call alone({4});
  next->Submit(&alone.request);
  EXPECT_TRUE(alone.done()) << "nothing waits any more";
}

TEST_F(RunnerTest, WhatWaitsForAnInstanceOrIsLessUrgentHoldsUpNoOtherModel) {
  DataPlane plane(0, &clock_);
  spec::ModelConfig lesser;
  lesser.priority = 9;
  Served other({}, nullptr, &clock_, &plane), last(lesser, nullptr, &clock_, &plane);
  Call behind({1}), waits({2}), comes({3}), runs({4});
  last->SubmitFromAfar(&behind.request);
  Served* busy = nullptr;
  bool at_once = false;
  Served model(
      {},
      [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
        if (Served* self = std::exchange(busy, nullptr); self != nullptr) {
          (*self)->Submit(&waits.request);  // its only instance runs this one
          clock_.AdvanceMillis(1);
          other->Submit(&comes.request);
          at_once = comes.done();
        }
        out->resize(1);
        Copy(in[0], "out", &(*out)[0]);
        return absl::OkStatus();
      },
      &clock_, &plane);
  busy = &model;
  model->Submit(&runs.request);
  EXPECT_TRUE(runs.done() && at_once);
  EXPECT_FALSE(waits.done() || behind.done());
  while (plane.executor.RunOne()) {
  }
  EXPECT_TRUE(waits.done() && behind.done());
}

TEST_F(RunnerTest, WhatWaitsRunsByModelThenLevelThenDeadline) {
  DataPlane plane(0, &clock_);
  spec::ModelConfig levels = Merging(1);
  levels.priority_levels = 4;
  spec::ModelConfig urgent = Merging(1);
  urgent.priority = 2;
  Served model(levels, Noting(), &clock_, &plane), other(urgent, Noting(), &clock_, &plane);
  Call usual({1}), pressing({1}), best({1}), lowest({1}), elsewhere({1}), copy({1});
  const int64_t now = clock_.MonotonicNanos();
  pressing.request.deadline_nanos = now + 1000 * kMs;
  best.request.priority = 1;
  lowest.request.priority = 9;  // as 4
  copy.request.priority = Request::kAfterAllOthers;
  other->Submit(&copy.request);
  for (Call* call : {&lowest, &usual, &pressing, &best}) model->Submit(&call->request);
  other->Submit(&elsewhere.request);
  EXPECT_EQ(model->ReadLoad().waiting, 4);
  EXPECT_EQ(model.metrics->pending, 4);
  while (plane.executor.RunOne()) {
  }
  std::vector<int> order = {elsewhere.order, best.order, pressing.order, usual.order, lowest.order, copy.order};
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(model.metrics->pending, 0);
}

TEST_F(RunnerTest, TheWantedLatencyStandsInForADeadline) {
  DataPlane plane(0, &clock_);
  spec::ModelConfig fast = Merging(1), slow = Merging(1);
  fast.slo_ms = 5;
  slow.slo_ms = 500;
  Served a(slow, Noting(), &clock_, &plane), b(fast, Noting(), &clock_, &plane);
  Call first({1}), second({1});
  a->Submit(&first.request);
  b->Submit(&second.request);
  while (plane.executor.RunOne()) {
  }
  EXPECT_LT(second.order, first.order);
}

TEST_F(RunnerTest, MergesWhatWaitsAndGivesEachItsRows) {
  Served model = Serve(Merging(4));
  ASSERT_TRUE(model.made.ok()) << model.made.status();
  runs_.clear();
  Call a({1}), b({2, 3}), c({4}), other({5, 6}, {1, 2});
  for (Call* call : {&a, &other, &b, &c}) model->Submit(&call->request);
  EXPECT_EQ(model.RunAll(), 2);
  EXPECT_THAT(runs_, ElementsAre(4, 1));
  EXPECT_THAT(a.Answer(), ElementsAre(1));
  EXPECT_THAT(b.Answer(), ElementsAre(2, 3));
  EXPECT_EQ(b.request.outputs[0].shape, (Shape{2, 1}));
  EXPECT_THAT(c.Answer(), ElementsAre(4));
  EXPECT_THAT(other.Answer(), ElementsAre(5, 6));
  EXPECT_GT(a.request.queue_ns, 0);
  Statistics sums = model->ReadStatistics();
  EXPECT_EQ(sums.execution_count, 2u);
  ASSERT_EQ(sums.batches.size(), 2u);
  EXPECT_EQ(sums.batches[0].rows, 1);
  EXPECT_EQ(sums.batches[1].rows, 4);
  EXPECT_EQ(sums.batches[1].count, 1u);
}

TEST_F(RunnerTest, ALoneRequestOfAMergingModelUsesItsOwnMemory) {
  const void* seen = nullptr;
  Served model(Merging(8), [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
    seen = in[0].data;
    out->resize(1);
    Copy(in[0], "out", &(*out)[0]);
    return absl::OkStatus();
  });
  Call call({1, 2});
  alignas(64) float answer[2];
  call.request.outputs.resize(1);
  call.request.outputs[0].buffer = AlignedBuffer::Borrow(answer, sizeof answer);
  model->Submit(&call.request);
  EXPECT_FALSE(call.done());
  EXPECT_EQ(model.RunAll(), 1);
  EXPECT_EQ(seen, call.values.data());
  EXPECT_EQ(answer[1], 2);
}

TEST_F(RunnerTest, PadsToThePreferredSizeAndCutsTheAnswer) {
  spec::ModelConfig config = Merging(8);
  config.preferred_batch_sizes = {4, 8};
  config.pad = true;
  Served model = Serve(config);
  runs_.clear();
  Call a({1}), b({2, 3});
  model->Submit(&a.request);
  model->Submit(&b.request);
  EXPECT_EQ(model.RunAll(), 1);
  EXPECT_THAT(runs_, ElementsAre(4));
  EXPECT_THAT(a.Answer(), ElementsAre(1));
  EXPECT_THAT(b.Answer(), ElementsAre(2, 3));
}

TEST_F(RunnerTest, OneBadRequestOfABatchFailsAlone) {
  Served model = Serve(Merging(8));
  Call a({1}), bad({-1}), c({3});
  for (Call* call : {&a, &bad, &c}) model->Submit(&call->request);
  EXPECT_EQ(model.RunAll(), 1);
  EXPECT_THAT(a.Answer(), ElementsAre(1));
  EXPECT_THAT(c.Answer(), ElementsAre(3));
  EXPECT_EQ(Message(bad), "-1 is no value");
  EXPECT_GT(bad.request.compute_ns, 0);
}

TEST_F(RunnerTest, ADelayedBatchRunsWhenItIsFullOrItsTimeHasCome) {
  Served model = Serve(Merging(2, 10));
  Call a({1}), b({2}), c({3}), hurried({4}, {1, 1});
  model->Submit(&a.request);
  EXPECT_EQ(model.RunAll(), 0);
  EXPECT_EQ(model.plane->executor.BeginSleep(nullptr), clock_.MonotonicNanos() + 10 * kMs);
  model->Submit(&b.request);
  EXPECT_EQ(model.RunAll(), 1);
  model->Submit(&c.request);
  clock_.AdvanceMillis(9);
  EXPECT_EQ(model.RunAll(), 0);
  clock_.AdvanceMillis(1);
  EXPECT_EQ(model.plane->executor.BeginSleep(nullptr), 0) << "there is work now";
  EXPECT_EQ(model.RunAll(), 1);
  EXPECT_TRUE(a.done() && b.done() && c.done());
  hurried.request.deadline_nanos = clock_.MonotonicNanos() + 4 * kMs;
  model->Submit(&hurried.request);
  clock_.AdvanceMillis(2);
  EXPECT_EQ(model.RunAll(), 1);
  EXPECT_TRUE(hurried.request.status.ok()) << hurried.request.status;
}

TEST_F(RunnerTest, AnOutputWithoutRowsSaysHowToServeTheModel) {
  auto sum = [](const std::vector<engine::InputView>&, std::vector<Tensor>* out) {
    out->resize(1);
    (*out)[0].name = "out";
    (*out)[0].dtype = DType::kFloat32;
    (*out)[0].shape = {1};
    (*out)[0].buffer.Resize(4);
    return absl::OkStatus();
  };
  Served model(Merging(4), sum, &clock_);
  Call a({1}), b({2});
  model->Submit(&a.request);
  model->Submit(&b.request);
  EXPECT_EQ(model.RunAll(), 1);
  EXPECT_THAT(Message(a), HasSubstr("output 'out' has shape [1] for 2 rows of input"));
  EXPECT_THAT(Message(b), HasSubstr("set max_batch_size: 0"));
  EXPECT_EQ(model->ReadStatistics().execution_count, 1u) << "running them alone would not help";
}

TEST_F(RunnerTest, InstancesFollowTheRequestsWhereTheirNumberIsOpen) {
  spec::ModelConfig config;
  config.max_instances = 3;
  config.slo_ms = 50;
  std::vector<std::unique_ptr<Call>> others;
  Served* served = nullptr;
  // Every run is met by two requests that find no idle instance.
  Served model(
      config,
      [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
        clock_.AdvanceMillis(cost_ms_);
        if (cost_ms_ > 0 && others.size() < 4) {
          others.push_back(std::make_unique<Call>(std::vector<float>{1}));
          (*served)->Submit(&others.back()->request);
          clock_.AdvanceMillis(20);
        }
        out->resize(1);
        Copy(in[0], "out", &(*out)[0]);
        return absl::OkStatus();
      },
      &clock_);
  served = &model;
  EXPECT_EQ(model->instances(), 1);
  EXPECT_EQ(model->AdjustInstances(), 1) << "nothing ran";
  cost_ms_ = 10;
  Call call({1});
  EXPECT_FALSE(model.plane->starving);
  const uint32_t asleep = model.plane->adjuster.Read();
  model->Submit(&call.request);
  model.RunAll();
  EXPECT_TRUE(model.plane->starving);
  EXPECT_EQ(model.plane->adjuster.Read(), asleep + 1) << "woken once";
  EXPECT_EQ(model->AdjustInstances(false), 1);
  EXPECT_EQ(model->AdjustInstances(), 1) << "the waiting was before";
  others.clear();
  Call again({1});
  model->Submit(&again.request);
  model.RunAll();
  EXPECT_EQ(model->AdjustInstances(), 2);
  clock_.AdvanceMillis(59'000);
  EXPECT_EQ(model->AdjustInstances(), 2);
  clock_.AdvanceMillis(2'000);
  EXPECT_EQ(model->AdjustInstances(), 1);
  clock_.AdvanceMillis(100'000);
  EXPECT_EQ(model->AdjustInstances(), 1);
}

TEST_F(RunnerTest, ABoundHoldsInstancesWhoseNumberIsOpenAndTakesAwayWhatIsTooMany) {
  spec::ModelConfig config;
  config.max_instances = 3;
  Served model = Serve(config);
  model.plane->instance_bound = 2;
  EXPECT_TRUE(model->AddInstance());
  EXPECT_FALSE(model->AddInstance()) << "all that the bound allows";
  model.plane->instance_bound = 0;
  EXPECT_TRUE(model->AddInstance());
  EXPECT_FALSE(model->AddInstance()) << "all that the configuration allows";
  EXPECT_FALSE(model->HasTooManyInstances());
  model.plane->instance_bound = 1;
  EXPECT_TRUE(model->HasTooManyInstances());
  EXPECT_EQ(model->AdjustInstances(), 2);
  EXPECT_EQ(model->AdjustInstances(), 1);
  EXPECT_EQ(model->AdjustInstances(), 1);
  EXPECT_FALSE(model->HasTooManyInstances());
  Call call({1});
  model->Submit(&call.request);
  EXPECT_TRUE(call.done()) << "one is always left";
}

TEST_F(RunnerTest, AtTheBoundAWaitingRequestWakesNobodyToMakeInstances) {
  spec::ModelConfig config;
  config.max_instances = 3;
  std::unique_ptr<Call> other;
  Served* served = nullptr;
  Served model(
      config,
      [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
        if (served != nullptr && other == nullptr) {
          other = std::make_unique<Call>(std::vector<float>{1});
          (*served)->Submit(&other->request);
        }
        out->resize(1);
        Copy(in[0], "out", &(*out)[0]);
        return absl::OkStatus();
      },
      &clock_);
  served = &model;
  for (int bound : {1, 2}) {
    model.plane->instance_bound = bound;
    other.reset();
    Call call({1});
    model->Submit(&call.request);
    model.RunAll();
    EXPECT_TRUE(other->done());
    EXPECT_EQ(model.plane->starving.load(), bound == 2);
  }
}

TEST_F(RunnerTest, AFixedNumberOfInstancesStays) {
  spec::ModelConfig config;
  config.instances = 3;
  Served model = Serve(config);
  model.plane->instance_bound = 1;
  EXPECT_EQ(model->instances(), 3);
  clock_.AdvanceMillis(100'000);
  EXPECT_EQ(model->AdjustInstances(), 3);
}

TEST_F(RunnerTest, BackgroundRunsAreNotCountedAndTakeAnyNumberOfRows) {
  Served model = Serve(Merging(2));
  Call call({1, 2, 3});
  std::vector<Tensor> outputs;
  ASSERT_TRUE(model->RunInBackground(call.request.inputs, &outputs).ok());
  EXPECT_EQ(outputs[0].shape, (Shape{3, 1}));
  EXPECT_EQ(model->ReadStatistics().execution_count, 0u);
  std::vector<Request::Input> wrong = call.request.inputs;
  wrong[0].name = "y";
  EXPECT_EQ(model->RunInBackground(wrong, &outputs).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RunnerTest, TheResponseCacheAnswersWhatItHasSeen) {
  spec::ModelConfig config;
  config.response_cache = true;
  Served model = Serve(config);
  runs_.clear();
  Call a({1, 2}), same({1, 2}), other({1, 2}, {1, 2}), bad({-1}), bad_again({-1});
  for (Call* call : {&a, &same, &other, &bad, &bad_again}) model->Submit(&call->request);
  EXPECT_FALSE(a.request.cached);
  EXPECT_TRUE(same.request.cached);
  EXPECT_THAT(same.Answer(), ElementsAre(1, 2));
  EXPECT_EQ(same.request.outputs[0].name, "out");
  EXPECT_FALSE(other.request.cached) << "the same bytes in another shape";
  EXPECT_FALSE(bad_again.request.cached) << "errors are not kept";
  EXPECT_EQ(runs_.size(), 4u);
  for (Call* call : {&a, &same}) {
    model->Record(true, 2, 10, call->request.queue_ns, 1, call->request.compute_ns, 1);
  }
  Statistics sums = model->ReadStatistics();
  EXPECT_EQ(sums.cache_hit_count, 1u);
  EXPECT_EQ(sums.cache_miss_count, 4u);
  EXPECT_EQ(sums.success_count, 2u);
  EXPECT_EQ(sums.queue_count, 2u);
  EXPECT_EQ(sums.compute_count, 1u);
  EXPECT_EQ(sums.inference_count, 2u);
}

TEST_F(RunnerTest, TheResponseCacheHasNothingToDoWithMemoryThatAClientMayChange) {
  spec::ModelConfig config;
  config.response_cache = true;
  Served model = Serve(config);
  Call shared({1, 2}), same({1, 2}), shared_again({1, 2});
  shared.request.in_shared_memory = shared_again.request.in_shared_memory = true;
  for (Call* call : {&shared, &same, &shared_again}) model->Submit(&call->request);
  EXPECT_FALSE(same.request.cached) << "the bytes may have been others when the engine read them";
  EXPECT_FALSE(shared_again.request.cached);
  EXPECT_THAT(shared_again.Answer(), ElementsAre(1, 2));
}

}  // namespace
}  // namespace tandem::serving
