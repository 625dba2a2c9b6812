#include "serving/lazy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serving/fake_version.h"

namespace tandem::serving {
namespace {

using testing::FakeVersion;
using ::testing::HasSubstr;

// Work that is not parked.
class OtherWork : public WorkSource {
 public:
  void Join(Worker*) override { ++workers; }
  void Leave(Worker*) override { --workers; }
  bool RunOne() override { return work-- > 0; }
  int64_t BeginSleep(Worker*) override { return until; }
  void EndSleep(Worker*) override {}
  int workers = 0, work = 0;
  int64_t until = kNever;
};

class Worker : public WorkSource::Worker {
 public:
  void Wake() override { ++wakes; }
  int wakes = 0;
};

class LazyTest : public ::testing::Test, public Request::Owner {
 protected:
  LazyTest()
      : lot_(
            &other_, [this](std::string_view, int32_t) { return now_; }, &clock_, 30, 256, loader_) {
    request_.owner = this;
    request_.inputs = {{"x", {DType::kFloat32, {1}, &x_, sizeof x_}}};
    lot_.Join(&worker_);
  }
  ~LazyTest() override { lot_.Leave(&worker_); }
  void Finished(Request* request) override {
    EXPECT_EQ(request->owner, this);
    ++finished_;
  }
  void Park(Request* request) { lot_.Park(request, "m", 3, config_, state_); }
  void Publish(LazyNow now) {
    now_ = std::move(now);
    lot_.TableChanged();
  }
  static LazyNow Loading() { return {.loading = true}; }

  FakeClock clock_;
  OtherWork other_;
  Worker worker_;
  std::shared_ptr<Waker> loader_ = std::make_shared<Waker>();
  std::shared_ptr<LazyState> state_ = std::make_shared<LazyState>();
  std::shared_ptr<FakeVersion> loaded_ = std::make_shared<FakeVersion>("m", 3, 1);
  spec::ModelConfig config_;
  LazyNow now_;
  ParkingLot lot_;
  float x_ = 5;
  Request request_;
  int finished_ = 0;
};

TEST_F(LazyTest, ARequestWaitsForTheLoadAndIsThenRunByAPollingThread) {
  const uint32_t seen = loader_->Read();
  Park(&request_);
  EXPECT_NE(loader_->Read(), seen) << "the loader is told";
  EXPECT_TRUE(state_->wanted);
  EXPECT_EQ(state_->parked, 1);
  EXPECT_FALSE(lot_.RunOne());
  Publish(Loading());
  EXPECT_EQ(worker_.wakes, 1);
  EXPECT_EQ(lot_.BeginSleep(&worker_), 0) << "the table changed: there may be work";
  EXPECT_FALSE(lot_.RunOne());
  EXPECT_EQ(lot_.BeginSleep(&worker_), clock_.MonotonicNanos() + 200'000'000) << "to see who has gone";
  clock_.AdvanceMillis(250);
  Publish({.handle = loaded_, .loads = 1});
  EXPECT_EQ(finished_, 0) << "the loader runs nothing itself";
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_EQ(finished_, 1);
  EXPECT_TRUE(request_.status.ok());
  EXPECT_EQ(request_.outputs[0].As<float>()[0], 6);
  EXPECT_EQ(request_.queue_ns, 250'000'000);
  EXPECT_EQ(state_->parked, 0);
  EXPECT_EQ(loaded_.use_count(), 2) << "the test's and the table's: the request's is gone";
}

TEST_F(LazyTest, AllThatWaitedAreRunOneAfterTheOther) {
  Request second = {};
  second.owner = this;
  second.inputs = request_.inputs;
  Park(&request_);
  Park(&second);
  Publish({.handle = loaded_, .loads = 1});
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_EQ(finished_, 1);
  EXPECT_EQ(lot_.BeginSleep(&worker_), 0);
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_FALSE(lot_.RunOne());
  EXPECT_EQ(finished_, 2);
}

TEST_F(LazyTest, AFailedLoadIsAnErrorWithItsReason) {
  Park(&request_);
  Publish({.hopeless = true, .loads = 1, .failure = "operator 'Nonsense' is not supported"});
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_EQ(request_.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(request_.status.message(), "model 'm' version 3 could not be loaded: operator 'Nonsense' is not supported");
  EXPECT_GT(request_.queue_ns, 0);
}

TEST_F(LazyTest, ALoadForWhichThereIsNoMemoryIsAnErrorToo) {
  Park(&request_);
  Publish({.loads = 1, .failure = "no memory"});
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_THAT(std::string(request_.status.message()), HasSubstr("no memory"));
}

TEST_F(LazyTest, AnOldFailureIsNotTheOneOfTheLoadThatARequestBegan) {
  now_ = {.loads = 1, .failure = "no memory"};
  Park(&request_);
  EXPECT_FALSE(lot_.RunOne());
  Publish({.handle = loaded_, .loads = 2});
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_TRUE(request_.status.ok());
}

TEST_F(LazyTest, ARequestWhoseVersionWasUnloadedAgainBeforeItsTurnHasItLoadedOnceMore) {
  Park(&request_);
  state_->wanted = false;
  Publish({.loads = 1});
  EXPECT_FALSE(lot_.RunOne());
  EXPECT_TRUE(state_->wanted);
  Publish({.handle = loaded_, .loads = 2});
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_TRUE(request_.status.ok());
}

TEST_F(LazyTest, ADeadlineIsKeptWhileItLoads) {
  request_.deadline_nanos = clock_.MonotonicNanos() + 5'000'000;
  Park(&request_);
  EXPECT_FALSE(lot_.RunOne());
  EXPECT_EQ(lot_.BeginSleep(&worker_), request_.deadline_nanos);
  clock_.AdvanceMillis(5);
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_EQ(request_.status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(LazyTest, ACancelledRequestIsNotRun) {
  std::atomic<bool> cancelled{false};
  request_.cancelled = &cancelled;
  Park(&request_);
  cancelled = true;
  Publish({.handle = loaded_, .loads = 1});
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_EQ(request_.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(loaded_->submitted(), 0);
}

TEST_F(LazyTest, WhoseClientHasGoneMakesRoomWhileItLoads) {
  std::atomic<bool> cancelled{false};
  request_.cancelled = &cancelled;
  Park(&request_);
  EXPECT_FALSE(lot_.RunOne());
  cancelled = true;
  clock_.AdvanceMillis(200);
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_EQ(request_.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(request_.queue_ns, 0) << "not one of those that were rejected";
  EXPECT_EQ(state_->parked, 0);
  EXPECT_EQ(lot_.BeginSleep(&worker_), WorkSource::kNever);
}

TEST_F(LazyTest, TheBytesThatWaitAreBounded) {
  config_.queue_bytes = static_cast<int64_t>(sizeof x_);
  Request second = {}, empty = {};
  second.owner = empty.owner = this;
  second.inputs = request_.inputs;
  empty.inputs = {{"x", {DType::kFloat32, {0}, &x_, 0}}};
  Park(&request_);
  Park(&second);
  EXPECT_THAT(std::string(second.status.message()), HasSubstr("queue is full (1 waiting)"));
  Park(&empty);
  EXPECT_EQ(state_->parked, 2);
  EXPECT_EQ(state_->parked_bytes, static_cast<int64_t>(sizeof x_));
  Publish({.handle = loaded_, .loads = 1});
  while (lot_.RunOne()) {
  }
  EXPECT_EQ(state_->parked_bytes, 0);
}

TEST_F(LazyTest, TheQueueIsBounded) {
  config_.queue_limit = 1;
  Request second = {};
  second.owner = this;
  Park(&request_);
  Park(&second);
  EXPECT_EQ(finished_, 1);
  EXPECT_EQ(second.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status.message()), HasSubstr("queue is full (1 waiting)"));
  EXPECT_EQ(state_->parked, 1);
  Publish({.handle = loaded_, .loads = 1});
  EXPECT_TRUE(lot_.RunOne());
}

TEST_F(LazyTest, OtherWorkGoesOnWhileRequestsAreParked) {
  EXPECT_EQ(other_.workers, 1);
  other_.work = 2;
  EXPECT_TRUE(lot_.RunOne());
  Park(&request_);
  EXPECT_TRUE(lot_.RunOne());
  EXPECT_FALSE(lot_.RunOne());
  other_.until = 17;
  EXPECT_EQ(lot_.BeginSleep(&worker_), 17) << "the earlier of both";
  Publish({.handle = loaded_, .loads = 1});
  EXPECT_TRUE(lot_.RunOne());
}

TEST_F(LazyTest, TheStandInCountsAtTheVersionThatAnswered) {
  DesiredVersion spec;
  spec.version = 3;
  LazyVersion stand_in("m", spec, std::make_shared<const LazySignature>(), state_, &lot_);
  stand_in.Submit(&request_);
  EXPECT_EQ(stand_in.ReadLoad().waiting, 1);
  EXPECT_FALSE(stand_in.RunInBackground({}, nullptr).ok());
  Publish({.handle = loaded_, .loads = 1});
  EXPECT_TRUE(lot_.RunOne());
  stand_in.Record(true, 1, 1, 1, 1, 1, 1);
  EXPECT_EQ(loaded_->recorded(), 1);
  now_ = {};
  stand_in.Record(true, 1, 1, 1, 1, 1, 1);
  EXPECT_EQ(loaded_->recorded(), 1) << "it was unloaded since";
}

}  // namespace
}  // namespace tandem::serving
