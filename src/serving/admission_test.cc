// The data plane of a version: what is refused, shed, given up or cancelled.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "serving/runner.h"
#include "serving/testing.h"

namespace tandem::serving {
namespace {

using testing::Call;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kMs;
using testing::Merging;
using testing::Message;
using testing::Served;

using AdmissionTest = testing::FunctionTest;

TEST_F(AdmissionTest, RefusesWhatDoesNotFitABatch) {
  Served model = Serve(Merging(2));
  Call large({1, 2, 3});
  model->Submit(&large.request);
  EXPECT_EQ(Message(large), "model 'm' version 1: the request has 3 rows, max_batch_size is 2");
  EXPECT_EQ(large.request.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(large.request.queue_ns, 0);
  Served fixed(Merging(2), nullptr, &clock_, nullptr, {{"x", DType::kFloat32, {1, -1}}});
  EXPECT_EQ(fixed.made.status().message(),
            "model 'm' version 1: input 'x' has shape [1,-1], must begin with -1 where requests are merged; set "
            "max_batch_size: 0");
}

TEST_F(AdmissionTest, AFullQueueRefusesOrShedsTheLeastUrgent) {
  spec::ModelConfig config = Merging(1, 1000);  // with a delay of 1 s nothing but full batches is due
  config.max_batch_size = 100;
  config.queue_limit = 2;
  config.priority_levels = 3;
  Served model = Serve(config);
  Call idle({0}), a({1}), b({2}), c({3}), urgent({4});
  a.request.priority = 3;
  b.request.priority = 2;
  c.request.priority = 3;
  urgent.request.priority = 1;
  // The limit counts those that no idle instance waits for; there is one.
  for (Call* call : {&idle, &a, &b, &c}) model->Submit(&call->request);
  EXPECT_TRUE(c.done());
  EXPECT_EQ(Message(c), "queue of model 'm' version 1 is full (3 waiting); try again later");
  EXPECT_EQ(c.request.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_GT(RetryAfterOf(c.request.status), 0);
  EXPECT_GT(c.request.queue_ns, 0);
  model->Submit(&urgent.request);
  EXPECT_TRUE(a.done()) << "the least urgent made room";
  EXPECT_EQ(a.request.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(b.done() || urgent.done());
  EXPECT_EQ(model.Count(Decision::kQueueFull), 1u);
  EXPECT_EQ(model.Count(Decision::kShed), 1u);
  clock_.AdvanceMillis(1000);
  EXPECT_EQ(model.RunAll(), 1);
  EXPECT_TRUE(b.request.status.ok() && urgent.request.status.ok() && idle.request.status.ok());
}

TEST_F(AdmissionTest, TheQueueIsBoundedByBytesTooButNeverRefusesOneThatWaitsAlone) {
  spec::ModelConfig config = Merging(100, 1000);
  config.queue_bytes = 8;
  Served model = Serve(config);
  Call large({1, 2, 3}), small({4});
  model->Submit(&large.request);
  EXPECT_FALSE(large.done());
  model->Submit(&small.request);
  EXPECT_THAT(Message(small), HasSubstr("is full (1 waiting)"));
  clock_.AdvanceMillis(1000);
  model.RunAll();
  EXPECT_TRUE(large.request.status.ok());
}

TEST_F(AdmissionTest, ADeadlineThatCannotBeMetIsRefusedAtOnce) {
  Served model = Serve(Merging(1));
  cost_ms_ = 100;
  Call first({1});
  model->Submit(&first.request);
  EXPECT_EQ(model.RunAll(), 1);
  Call a({1}), b({2}), late({3}), soon({4});
  model->Submit(&a.request);
  model->Submit(&b.request);
  late.request.deadline_nanos = clock_.MonotonicNanos() + 50 * kMs;
  model->Submit(&late.request);
  ASSERT_TRUE(late.done());
  EXPECT_EQ(late.request.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(late), HasSubstr("would take 100 ms"));
  EXPECT_THAT(Message(late), HasSubstr("deadline is in 50 ms"));
  EXPECT_NEAR(RetryAfterOf(late.request.status), 0.05, 1e-6);
  EXPECT_EQ(model.Count(Decision::kTooLate), 1u);
  // It is more urgent than a and b, which have no deadline.
  soon.request.deadline_nanos = clock_.MonotonicNanos() + 150 * kMs;
  model->Submit(&soon.request);
  EXPECT_FALSE(soon.done());
  model.RunAll();
  EXPECT_TRUE(soon.request.status.ok());
  EXPECT_LT(soon.order, a.order);
}

TEST_F(AdmissionTest, OneOutlierDoesNotRefuseForEver) {
  Served model = Serve({});
  cost_ms_ = 1000;
  Call outlier({1});
  model->Submit(&outlier.request);
  cost_ms_ = 0;
  int refused = 0;
  for (bool served = false; !served; ++refused) {
    ASSERT_LT(refused, 200);
    Call call({1});
    call.request.deadline_nanos = clock_.MonotonicNanos() + 10 * kMs;
    model->Submit(&call.request);
    served = call.request.status.ok();
  }
  EXPECT_GT(refused, 5);
}

TEST_F(AdmissionTest, ADeadlineThatPassesWhileItWaitsIsAnsweredThen) {
  spec::ModelConfig config = Merging(100, 500);
  config.timeout_ms = 400;
  Served model = Serve(config);
  Call own({1}), usual({2}), past({3});
  own.request.deadline_nanos = clock_.MonotonicNanos() + 20 * kMs;
  model->Submit(&usual.request);
  model->Submit(&own.request);
  past.request.deadline_nanos = 1;
  model->Submit(&past.request);
  EXPECT_EQ(Message(past), "model 'm' version 1: the request's deadline had passed when it arrived");
  EXPECT_EQ(past.request.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(model.plane->executor.BeginSleep(nullptr), clock_.MonotonicNanos() + 10 * kMs) << "half of its time";
  clock_.AdvanceMillis(20);
  EXPECT_EQ(model.plane->executor.BeginSleep(nullptr), 0);
  EXPECT_TRUE(model.plane->executor.RunOne());
  EXPECT_EQ(own.request.status.code(), absl::StatusCode::kDeadlineExceeded) << own.request.status;
  EXPECT_EQ(own.request.queue_ns, 20 * kMs);
  EXPECT_EQ(own.request.compute_ns, 0);
  EXPECT_EQ(model.Count(Decision::kExpired), 2u);
}

TEST_F(AdmissionTest, ACancelledRequestIsNotRun) {
  Served model = Serve(Merging(4));
  runs_.clear();
  std::atomic<bool> gone{false};
  Call a({1}), b({2});
  a.request.cancelled = &gone;
  model->Submit(&a.request);
  model->Submit(&b.request);
  gone = true;
  model.RunAll();
  EXPECT_EQ(a.request.status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(b.request.status.ok());
  EXPECT_THAT(runs_, ElementsAre(1));
  model->Record(false, 1, 5, a.request.queue_ns, 0, a.request.compute_ns, 0);
  EXPECT_EQ(model.metrics->cancelled_count.Value(), 1u);
  model->Record(false, 1, 5, 0, 0, 0, 0);
  EXPECT_EQ(model.metrics->other_fail_count.Value(), 1u);
}

TEST_F(AdmissionTest, ServingsShareOfTheCpuIsKeptByRefusing) {
  CpuBudget budget;
  budget.SetLimit(1);
  budget.Settle(0.01, 1);
  ServingSettings settings;
  settings.cpu_budget = &budget;
  Served model = Serve({}, settings);
  Call call({1});
  model->Submit(&call.request);
  EXPECT_EQ(call.request.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(call), HasSubstr("share of the CPU"));
  EXPECT_EQ(model.Count(Decision::kBudget), 1u);
}

}  // namespace
}  // namespace tandem::serving
