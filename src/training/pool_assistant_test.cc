#include "training/pool_assistant.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/remainder.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <latch>
#include <thread>

#include "base/status.h"
#include "training/step.h"

namespace tandem::training {
namespace {

constexpr int64_t kBatch = 24;

Model MakeResNet(at::ScalarType dtype) {
  auto bytes = graph::MakeModel({.name = "resnet8", .input = {1, 12, 12}, .classes = 4, .seed = 5});
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  auto graph = graph::Graph::Parse(*std::move(bytes), "resnet8");
  EXPECT_TRUE(graph.ok()) << graph.status();
  auto model = Model::Create(*graph, {}, dtype);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

Batch SomeBatch() {
  const at::Tensor pixels = at::remainder(at::arange(kBatch * 144, at::kFloat).mul(0.37), 1.0);
  return {pixels.reshape({kBatch, 1, 12, 12}), at::remainder(at::arange(kBatch, at::kLong), 4)};
}

// One micro-batch of the whole: all threads but one have nothing else to do.
Gradients GradientsOf(const Model& model, const Precision& precision, WorkerPool* pool) {
  spec::TrainSpec spec;
  spec.batch = spec.micro_batch = kBatch;
  auto gradients = ComputeGradients(model, SomeBatch(), Plan(kBatch, spec), 0, {.precision = precision}, pool);
  EXPECT_TRUE(gradients.ok()) << gradients.status();
  return *std::move(gradients);
}

TEST(PoolAssistant, GradientsHaveTheSameBytesWhoeverComputesThem) {
  for (const char* name : {"fp32", "bf16", "fp64"}) {
    const Precision precision = ResolvePrecision(name);
    const Model model = MakeResNet(precision.weights);
    WorkerPool alone(1), assisted(3);
    const Gradients expected = GradientsOf(model, precision, &alone);
    int runs = 0;
    // Workers that have not come to rest yet are not asked.
    while (++runs <= 3 || assisted.usage().fillers_nanos == 0) {
      const Gradients gradients = GradientsOf(model, precision, &assisted);
      ASSERT_EQ(gradients.sum.size(), expected.sum.size());
      for (size_t i = 0; i < expected.sum.size(); ++i) {
        EXPECT_TRUE(at::equal(gradients.sum[i], expected.sum[i])) << name << ": " << model.trained()[i];
      }
    }
    EXPECT_EQ(alone.usage().fillers_nanos, 0) << "nobody was there to assist";
  }
}

// Runs `body` as an item of a pool whose other worker has nothing to do.
absl::Status BesideASpareWorker(const std::function<absl::Status(WorkerPool*)>& body) {
  WorkerPool pool(2);
  WorkerPool::Work work;
  work.items = 1;
  work.body = [&](int64_t) {
    while (!pool.HasSpareWorker()) std::this_thread::yield();
    return body(&pool);
  };
  return pool.Run(work);
}

TEST(PoolAssistant, APieceThatFailsFailsTheMicroBatch) {
  absl::Status status = BesideASpareWorker([](WorkerPool* pool) {
    PoolAssistant assistant(pool);
    EXPECT_TRUE(assistant.Offer([] { throw std::runtime_error("no memory left"); }));
    return assistant.Finish();
  });
  EXPECT_THAT(std::string(MessageOf(status)), testing::HasSubstr("no memory left"));
}

TEST(PoolAssistant, NothingIsTakenWhileNobodyIsFree) {
  absl::Status status = BesideASpareWorker([](WorkerPool* pool) {
    PoolAssistant assistant(pool);
    std::latch end(1);
    bool ran = false;
    EXPECT_TRUE(assistant.Offer([&] { end.wait(); }));
    EXPECT_FALSE(assistant.Offer([&] { ran = true; })) << "the only other worker has a piece";
    end.count_down();
    absl::Status finished = assistant.Finish();
    EXPECT_FALSE(ran);
    return finished;
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(PoolAssistant, EveryPieceIsRunOnceWhileThreadsComeAndGo) {
  std::atomic<int> runs{0};
  int taken = 0;
  absl::Status status = BesideASpareWorker([&](WorkerPool* pool) {
    std::atomic<bool> done{false};
    std::thread gate([&] {
      for (int allowed = 1; !done; allowed = 3 - allowed) pool->SetGate(allowed);
    });
    absl::Status finished;
    for (int i = 0; i < 300; ++i) {
      PoolAssistant assistant(pool);
      taken += assistant.Offer([&] { ++runs; });
      finished.Update(assistant.Finish());
    }
    done = true;
    gate.join();
    return finished;
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(runs, taken);
}

}  // namespace
}  // namespace tandem::training
