// Threads that take work: who is woken, and that nothing is lost between them.
#include "serving/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <latch>
#include <thread>

#include "serving/testing.h"

namespace tandem::serving {
namespace {

using testing::Call;
using testing::Copy;
using testing::Served;

class FakeWorker : public WorkSource::Worker {
 public:
  void Wake() override { ++woken; }
  int woken = 0;
};

// A thread that sleeps and runs work as a door's does.
class Thread : public WorkSource::Worker {
 public:
  explicit Thread(WorkSource* work) : work_(work) {
    work_->Join(this);
    thread_ = std::thread([this] { Loop(); });
  }
  ~Thread() override {
    stop_ = true;
    Wake();
    thread_.join();
    work_->Leave(this);
  }
  void Wake() override {
    std::lock_guard lock(mutex_);
    woken_ = true;
    wake_.notify_one();
  }

 private:
  void Loop() {
    while (!stop_) {
      while (work_->RunOne()) {
      }
      const int64_t until = work_->BeginSleep(this);
      if (until != 0) {
        const int64_t most = Clock::Real()->MonotonicNanos() + 1'000'000'000;
        const int64_t nanos = std::min(until, most) - Clock::Real()->MonotonicNanos();
        std::unique_lock lock(mutex_);
        wake_.wait_for(lock, std::chrono::nanoseconds(std::max<int64_t>(nanos, 0)), [&] { return woken_; });
        woken_ = false;
      }
      work_->EndSleep(this);
    }
  }

  WorkSource* work_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false;
  std::thread thread_;
};

spec::ModelConfig Merging(int most, double delay_ms = 0, int instances = 1) {
  spec::ModelConfig config;
  config.max_batch_size = most;
  config.max_queue_delay_ms = delay_ms;
  config.instances = instances;
  return config;
}

class ExecutorTest : public ::testing::Test {
 protected:
  FakeClock clock_;
  FakeWorker awake_, asleep_;
};

TEST_F(ExecutorTest, ALoneRequestWakesNobodyWhileItsThreadIsAwake) {
  Served model(Merging(1), nullptr, &clock_);
  Executor& executor = model.plane->executor;
  executor.Join(&awake_);
  executor.Join(&asleep_);
  EXPECT_EQ(executor.BeginSleep(&asleep_), WorkSource::kNever);
  Call call({1});
  model->Submit(&call.request);
  EXPECT_EQ(asleep_.woken, 0);
  EXPECT_EQ(executor.BeginSleep(&awake_), 0) << "there is work";
  EXPECT_TRUE(executor.RunOne());
  EXPECT_FALSE(executor.RunOne());
}

TEST_F(ExecutorTest, MoreWorkThanAwakeThreadsWakesASleeper) {
  Served model(Merging(1, 0, 2), nullptr, &clock_);
  Executor& executor = model.plane->executor;
  executor.Join(&awake_);
  executor.Join(&asleep_);
  executor.BeginSleep(&asleep_);
  Call a({1}), b({2}), c({3});
  model->Submit(&a.request);
  EXPECT_EQ(asleep_.woken, 0);
  model->Submit(&b.request);
  EXPECT_EQ(asleep_.woken, 1) << "two instances are idle";
  model->Submit(&c.request);
  EXPECT_EQ(asleep_.woken, 1) << "a third could not run";
  while (executor.RunOne()) {
  }
}

TEST_F(ExecutorTest, WhoSubmitsFromAfarWakesASleeper) {
  Served model({}, nullptr, &clock_);
  Executor& executor = model.plane->executor;
  executor.Join(&asleep_);
  executor.BeginSleep(&asleep_);
  Call call({1});
  model->SubmitFromAfar(&call.request);
  EXPECT_FALSE(call.done());
  EXPECT_EQ(asleep_.woken, 1);
  executor.EndSleep(&asleep_);
  EXPECT_TRUE(executor.RunOne());
  EXPECT_TRUE(call.done());
}

TEST_F(ExecutorTest, AThreadThatGoesIntoALongRunHandsTheClockOn) {
  // While the only awake thread runs one model, another thread must watch over the delayed batch of the other.
  DataPlane plane(0, &clock_);
  Served delayed(Merging(8, 10), nullptr, &clock_, &plane);
  int woken_during_run = -1;
  Served other(
      {},
      [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
        woken_during_run = asleep_.woken;
        out->resize(1);
        Copy(in[0], "out", &(*out)[0]);
        return absl::OkStatus();
      },
      &clock_, &plane);
  plane.executor.Join(&awake_);
  plane.executor.Join(&asleep_);
  plane.executor.BeginSleep(&asleep_);
  Call waits({1}), runs({2});
  delayed->Submit(&waits.request);
  EXPECT_EQ(asleep_.woken, 0);
  other->Submit(&runs.request);
  EXPECT_TRUE(runs.done());
  EXPECT_EQ(woken_during_run, 1);
  EXPECT_EQ(plane.executor.BeginSleep(&asleep_), clock_.MonotonicNanos() + 10'000'000);
  clock_.AdvanceMillis(10);
  EXPECT_TRUE(plane.executor.RunOne());
}

TEST_F(ExecutorTest, AThreadThatLeavesPassesItsWorkOn) {
  Served model(Merging(1), nullptr, &clock_);
  Executor& executor = model.plane->executor;
  executor.Join(&awake_);
  executor.Join(&asleep_);
  executor.BeginSleep(&asleep_);
  Call call({1});
  model->Submit(&call.request);
  EXPECT_EQ(asleep_.woken, 0);
  executor.Leave(&awake_);
  EXPECT_EQ(asleep_.woken, 1);
  executor.RunOne();
}

TEST_F(ExecutorTest, DifferentInstancesRunAtTheSameTimeOnDifferentThreads) {
  std::latch both(2);
  std::atomic<bool> warm{false};
  Served model(Merging(1, 0, 2), [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
    if (warm) both.arrive_and_wait();
    out->resize(1);
    Copy(in[0], "out", &(*out)[0]);
    return absl::OkStatus();
  });
  warm = true;
  Call a({1}), b({2});
  Thread first(&model.plane->executor), second(&model.plane->executor);
  model->SubmitFromAfar(&a.request);
  model->SubmitFromAfar(&b.request);
  a.Wait();
  b.Wait();
  EXPECT_TRUE(a.request.status.ok() && b.request.status.ok());
}

TEST_F(ExecutorTest, ADelayedBatchIsRunByAThreadThatSlept) {
  Served model(Merging(64, 5));
  Thread thread(&model.plane->executor);
  Call call({1});
  model->SubmitFromAfar(&call.request);
  call.Wait();
  EXPECT_TRUE(call.request.status.ok());
  EXPECT_GE(call.request.queue_ns, 4'000'000);
}

TEST_F(ExecutorTest, ADeadlineIsKeptWhileTheOnlyInstanceIsBusy) {
  std::atomic<bool> hold{false};
  Served model(Merging(1), [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
    hold.wait(true);
    out->resize(1);
    Copy(in[0], "out", &(*out)[0]);
    return absl::OkStatus();
  });
  hold = true;
  Thread first(&model.plane->executor), second(&model.plane->executor);
  Call running({1}), late({2});
  model->SubmitFromAfar(&running.request);
  while (model->ReadLoad().busy == 0) std::this_thread::yield();
  late.request.deadline_nanos = Clock::Real()->MonotonicNanos() + 20'000'000;
  model->SubmitFromAfar(&late.request);
  late.Wait();
  EXPECT_EQ(late.request.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(running.done());
  hold = false;
  hold.notify_all();
  running.Wait();
}

// Threads that submit and run, as doors do: every request is answered once, whatever becomes of it.
TEST_F(ExecutorTest, ManyThreadsAnswerEveryRequestOnce) {
  DataPlane plane(1 << 16, Clock::Real());
  std::atomic<int> inside{0}, most{0};
  auto run = [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) -> absl::Status {
    const int now = ++inside;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    const auto* values = static_cast<const float*>(in[0].data);
    bool bad = false;
    for (size_t i = 0; i < in[0].byte_size / 4; ++i) bad |= values[i] == -1;
    --inside;
    if (bad) return absl::InvalidArgumentError("bad");
    out->resize(1);
    Copy(in[0], "out", &(*out)[0]);
    return absl::OkStatus();
  };
  spec::ModelConfig plain, urgent;
  plain.instances = 2;
  urgent.priority = 1;
  spec::ModelConfig merging = Merging(4, 0.05, 2);
  merging.priority_levels = 3;
  merging.queue_limit = 4;
  Served models[] = {Served(plain, run, Clock::Real(), &plane), Served(urgent, run, Clock::Real(), &plane),
                     Served(merging, run, Clock::Real(), &plane)};
  constexpr int kThreads = 4, kCalls = 1500;
  std::atomic<int> wrong{0}, answered{0};
  std::latch all(kThreads);
  auto work = [&](int thread) {
    FakeWorker self;
    plane.executor.Join(&self);
    std::vector<std::unique_ptr<Call>> calls;
    std::vector<std::unique_ptr<std::atomic<bool>>> gone;
    for (int i = 0; i < kCalls; ++i) {
      const float value = i % 50 == 7 ? -1 : static_cast<float>(thread * kCalls + i);
      Call& call = *calls.emplace_back(std::make_unique<Call>(std::vector<float>{value}));
      call.request.cancelled = gone.emplace_back(std::make_unique<std::atomic<bool>>(false)).get();
      call.request.priority = 1 + i % 3;
      if (i % 11 == 0) call.request.deadline_nanos = Clock::Real()->MonotonicNanos() + 100'000;
      models[i % 3]->Submit(&call.request);
      if (i % 13 == 0) gone.back()->store(true);
      if (i % 3 == 2) plane.executor.RunOne();
    }
    for (auto& call : calls) {
      while (!call->done()) plane.executor.RunOne();
      ++answered;
      const absl::Status& status = call->request.status;
      const bool bad = call->values[0] == -1;
      if (status.ok() ? bad || call->Answer() != call->values
                      : absl::IsInvalidArgument(status) != bad && !absl::IsUnavailable(status) &&
                            !absl::IsDeadlineExceeded(status) && !absl::IsCancelled(status)) {
        ++wrong;
      }
    }
    all.arrive_and_wait();
    plane.executor.Leave(&self);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answered, kThreads * kCalls);
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(most, 5) << "instances";
  for (Served& model : models) {
    EXPECT_EQ(model->ReadLoad().waiting, 0);
    EXPECT_EQ(model->ReadLoad().busy, 0);
    EXPECT_EQ(model.metrics->pending, 0);
  }
}

// Sleeping threads and one that submits from afar: no wake-up is lost.
TEST_F(ExecutorTest, NoWakeUpIsLost) {
  Served model(Merging(2, 0, 2));
  Thread first(&model.plane->executor), second(&model.plane->executor);
  for (int i = 0; i < 3000; ++i) {
    Call a({1}), b({2});
    model->SubmitFromAfar(&a.request);
    if (i % 2 == 0) model->SubmitFromAfar(&b.request);
    a.Wait();
    if (i % 2 == 0) b.Wait();
  }
}

}  // namespace
}  // namespace tandem::serving
