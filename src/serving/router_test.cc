#include "serving/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <thread>

#include "serving/fake_version.h"

namespace tandem::serving {
namespace {

using testing::FakeVersion;
using ::testing::HasSubstr;
using Side = RouterMaker::Side;

class RouterTest : public ::testing::Test {
 protected:
  RouterTest() : maker_(&metrics_, &clock_, runner_.queue()) {}

  std::shared_ptr<const Router> Make(const Split& split) {
    return maker_.Make("m", split, {champion_, ""}, {canary_, ""}, {shadow_, ""}, &history_);
  }
  static Request WithKey(std::string_view key) {
    Request request;
    request.route_key = key;
    return request;
  }
  // The answer that ends a trip.
  static void End(const Router& router, Request* request, Router::Trip* trip, absl::Status status) {
    request->status = std::move(status);
    router.End(*request, trip);
  }

  FakeClock clock_;
  Metrics metrics_;
  ShadowRunner runner_;
  RouterMaker maker_;
  SplitHistory history_;
  std::shared_ptr<FakeVersion> champion_ = std::make_shared<FakeVersion>("m", 1);
  std::shared_ptr<FakeVersion> canary_ = std::make_shared<FakeVersion>("m", 2);
  std::shared_ptr<FakeVersion> shadow_ = std::make_shared<FakeVersion>("m", 3);
};

TEST(BucketOf, IsTheSameForEver) {
  // Computed from the definition in router.h by other means; a change would send clients to another version.
  EXPECT_EQ(BucketOf("fashion", "user-1"), 5496u);
  EXPECT_EQ(BucketOf("fashion", "user-2"), 1331u);
  EXPECT_EQ(BucketOf("other", "user-1"), 4001u);
  EXPECT_EQ(BucketOf("", ""), 2267u);
}

TEST_F(RouterTest, AKeyAlwaysGoesToTheSameVersionAndTheShareIsNearThePercentage) {
  std::shared_ptr<const Router> router = Make({.canary = 2, .canary_percent = 10});
  int to_canary = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string key = StrCat("user-", i);
    const int32_t version = router->Begin(WithKey(key)).handle->version();
    EXPECT_EQ(router->Begin(WithKey(key)).handle->version(), version);
    to_canary += version == 2;
  }
  EXPECT_NEAR(to_canary, 2000, 150);
}

TEST_F(RouterTest, AKeyStaysWithTheCanaryWhenItsShareGrows) {
  std::shared_ptr<const Router> small = Make({.canary = 2, .canary_percent = 5});
  std::shared_ptr<const Router> large = Make({.canary = 2, .canary_percent = 50});
  for (int i = 0; i < 2000; ++i) {
    std::string key = StrCat(i);
    if (small->Begin(WithKey(key)).handle->version() == 2) {
      EXPECT_EQ(large->Begin(WithKey(key)).handle->version(), 2);
    }
  }
}

TEST_F(RouterTest, RequestsWithoutAKeyAreSpreadByThePercentage) {
  for (double percent : {0.0, 0.5, 10.0, 50.0, 100.0}) {
    std::shared_ptr<const Router> router = Make({.canary = 2, .canary_percent = percent});
    int to_canary = 0;
    for (int i = 0; i < 10'000; ++i) to_canary += router->Begin(Request()).handle->version() == 2;
    EXPECT_NEAR(to_canary, percent * 100, percent == 0 || percent == 100 ? 0 : 5);
  }
}

TEST_F(RouterTest, ASequenceStaysWithOneVersionWhateverTheKeysOfItsRequests) {
  std::shared_ptr<const Router> router = Make({.canary = 2, .canary_percent = 50});
  std::map<int32_t, int> sequences;
  for (uint64_t id = 1; id <= 200; ++id) {
    Request request;
    request.sequence.id = id;
    request.route_key = "a";
    const int32_t version = router->Begin(request).handle->version();
    for (std::string_view key : {"b", "c", ""}) {
      request.route_key = key;
      EXPECT_EQ(router->Begin(request).handle->version(), version);
    }
    ++sequences[version];
  }
  EXPECT_GT(sequences[1], 50);
  EXPECT_GT(sequences[2], 50);
}

TEST_F(RouterTest, CountsRequestsFailuresAndTimeOfBothSides) {
  std::shared_ptr<const Router> router = Make({.canary = 2, .canary_percent = 50});
  auto one = [&](int64_t ms, absl::Status status, int64_t compute_ns = 1) {
    Request request;
    request.compute_ns = compute_ns;
    Router::Trip trip = router->Begin(request);
    clock_.AdvanceMillis(trip.handle->version() == 2 ? 2 * ms : ms);
    End(*router, &request, &trip, std::move(status));
  };
  for (int i = 0; i < 100; ++i) one(10, absl::OkStatus());
  for (int i = 0; i < 20; ++i) one(0, Internal("broken"));
  for (int i = 0; i < 20; ++i) one(0, InvalidArgument("the engine refused it"));
  for (int i = 0; i < 20; ++i) one(0, InvalidArgument("wrong input"), 0);
  for (int i = 0; i < 20; ++i) one(0, Cancelled("gone"));
  CanaryReport report = *router->ReadCanary();
  EXPECT_EQ(report.champion.version, 1);
  EXPECT_EQ(report.canary.version, 2);
  EXPECT_EQ(report.champion.requests + report.canary.requests, 180u);
  EXPECT_NEAR(report.canary.requests, 90, 3);
  EXPECT_EQ(report.champion.failures + report.canary.failures, 40u) << "mistakes of clients are no failures";
  EXPECT_NEAR(report.canary.failures, 20, 3);
  EXPECT_NEAR(report.champion.p99_us, 10'000, 1500);
  EXPECT_NEAR(report.canary.p99_us, 20'000, 3000);
  EXPECT_NEAR(report.seconds, 1.5, 0.1);
  EXPECT_EQ(report.problem, "");
}

TEST_F(RouterTest, FiguresGoOnWhenTheShareChangesAndBeginAnewWithAnotherPair) {
  auto send = [&](const Router& router) {
    Request request;
    Router::Trip trip = router.Begin(request);
    End(router, &request, &trip, absl::OkStatus());
  };
  send(*Make({.canary = 2, .canary_percent = 100}));
  std::shared_ptr<const Router> router = Make({.canary = 2, .canary_percent = 60});
  EXPECT_EQ(router->ReadCanary()->canary.requests, 1u);
  canary_ = std::make_shared<FakeVersion>("m", 4);
  router = Make({.canary = 4, .canary_percent = 60});
  EXPECT_EQ(router->ReadCanary()->canary.requests, 0u);
  send(*router);
  champion_ = std::make_shared<FakeVersion>("m", 5);
  router = Make({.canary = 4, .canary_percent = 60});
  EXPECT_EQ(router->ReadCanary()->champion.requests + router->ReadCanary()->canary.requests, 0u);
}

TEST_F(RouterTest, ASplitBetweenVersionsThatTakeOrGiveOtherTensorsIsRefused) {
  canary_->outputs_[0].shape = {-1, 10};
  shadow_->inputs_.push_back({"y", DType::kInt32, {2}});
  std::shared_ptr<const Router> router = Make({.canary = 2, .canary_percent = 50, .shadow = 3, .shadow_percent = 50});
  EXPECT_FALSE(router->active());
  EXPECT_EQ(router->ReadCanary()->problem,
            "version 2 has the output 'out' FP32 [-1,10] instead of 'out' FP32 [-1] as in version 1");
  EXPECT_EQ(router->ReadShadow()->problem, "version 3 has 2 inputs instead of 1 as in version 1");
}

TEST_F(RouterTest, ASplitWaitsUntilBothVersionsAreThere) {
  std::shared_ptr<const Router> router = maker_.Make("m", {.canary = 2, .canary_percent = 50}, {champion_, ""},
                                                     {nullptr, "is being loaded"}, {}, &history_);
  EXPECT_FALSE(router->active());
  EXPECT_EQ(router->ReadCanary()->problem, "version 2 is being loaded");
  EXPECT_EQ(router->ReadShadow().status().code(), absl::StatusCode::kNotFound);
  router = maker_.Make("m", {.canary = 2, .canary_percent = 50}, {nullptr, "could not be loaded: bad"}, {canary_, ""},
                       {}, &history_);
  EXPECT_EQ(router->ReadCanary()->problem, "the default version could not be loaded: bad");
  router = maker_.Make("m", {.canary = 1, .canary_percent = 50}, {champion_, ""}, {champion_, ""}, {}, &history_);
  EXPECT_EQ(router->ReadCanary()->problem, "version 1 is the default version itself");
  EXPECT_EQ(maker_.Make("m", {}, {champion_, ""}, {}, {}, &history_), nullptr);
}

class ShadowTest : public RouterTest {
 protected:
  Request Asking(const std::vector<float>& x) {
    Request request;
    request.inputs = {{"x", {DType::kFloat32, {static_cast<int64_t>(x.size())}, x.data(), x.size() * sizeof(float)}}};
    return request;
  }
  // The whole way of a request; gives what the client got.
  std::vector<float> Send(const Router& router, const std::vector<float>& x) {
    struct Nobody : Request::Owner {
      void Finished(Request*) override {}
    } nobody;
    Request request = Asking(x);
    request.owner = &nobody;
    Router::Trip trip = router.Begin(request);
    trip.handle->Submit(&request);
    router.End(request, &trip);
    if (!request.status.ok()) return {};
    const Tensor& out = request.outputs[0];
    return {out.As<float>(), out.As<float>() + x.size()};
  }
  // Waits until nothing is under way.
  ShadowReport AwaitReport(const Router& router, uint64_t total) {
    while (true) {
      ShadowReport report = *router.ReadShadow();
      if (report.equal + report.different + report.failed + report.dropped == total) return report;
      std::this_thread::yield();
    }
  }
  static constexpr Split kAll{.shadow = 3, .shadow_percent = 100};
};

TEST_F(ShadowTest, AnswersAreComparedAndNeverReturned) {
  shadow_ = std::make_shared<FakeVersion>("m", 3, 0.5F);
  std::shared_ptr<const Router> router = Make(kAll);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Send(*router, {1, 2}), (std::vector<float>{1, 2}));
  ShadowReport report = AwaitReport(*router, 10);
  EXPECT_EQ(report.champion, 1);
  EXPECT_EQ(report.shadow, 3);
  EXPECT_EQ(report.different, 10u);
  EXPECT_DOUBLE_EQ(report.max_absolute, 0.5);
  EXPECT_DOUBLE_EQ(report.max_relative, 1.0 / 3);
  std::map<std::string, double> counts;
  for (const MetricFamily& family : metrics_.Read()) {
    if (family.name != "tandem_shadow_requests_total") continue;
    for (const MetricSample& sample : family.samples) counts[sample.labels[2].second] = sample.value;
  }
  EXPECT_EQ(counts, (std::map<std::string, double>{{"equal", 0}, {"different", 10}, {"failed", 0}, {"dropped", 0}}));
}

TEST_F(ShadowTest, AShadowThatFailsIsCountedAndTheClientNoticesNothing) {
  shadow_->fails_with_ = Internal("broken");
  std::shared_ptr<const Router> router = Make(kAll);
  EXPECT_EQ(Send(*router, {7}), (std::vector<float>{7}));
  EXPECT_EQ(AwaitReport(*router, 1).failed, 1u);
}

TEST_F(ShadowTest, AShadowThatIsBehindDropsCopiesAndHoldsUpNobody) {
  shadow_->hold_ = true;
  std::shared_ptr<const Router> router = Make(kAll);
  const int sent = ShadowQueue::kMaxCopies + 36;
  for (int i = 0; i < sent; ++i) EXPECT_EQ(Send(*router, {3}), (std::vector<float>{3}));
  EXPECT_EQ(router->ReadShadow()->dropped, 36u);
  shadow_->LetGo(sent);
  ShadowReport report = AwaitReport(*router, sent);
  EXPECT_EQ(report.equal, static_cast<uint64_t>(ShadowQueue::kMaxCopies));
  EXPECT_EQ(Send(*router, {3}), (std::vector<float>{3}));
  EXPECT_EQ(AwaitReport(*router, sent + 1).dropped, 36u) << "there is room again";
}

TEST_F(ShadowTest, ARequestLargerThanTheQueueIsDropped) {
  std::shared_ptr<const Router> router = Make(kAll);
  std::vector<float> large(ShadowQueue::kMaxBytes / sizeof(float) + 1);
  Request request = Asking(large);
  EXPECT_EQ(router->Begin(request).copy, nullptr);
  EXPECT_EQ(router->ReadShadow()->dropped, 1u);
}

TEST_F(ShadowTest, OnlyRequestsThatTheChampionAnsweredAreCopied) {
  Split split = kAll;
  split.canary = 2;
  split.canary_percent = 100;
  std::shared_ptr<const Router> router = Make(split);
  const std::vector<float> x = {1};
  EXPECT_EQ(router->Begin(Asking(x)).copy, nullptr) << "the canary answers";
  router = Make(kAll);
  Request sequence = Asking(x);
  sequence.sequence.id = 5;
  EXPECT_EQ(router->Begin(sequence).copy, nullptr) << "its answer depends on earlier ones";
  champion_->fails_with_ = Internal("broken");
  EXPECT_TRUE(Send(*router, x).empty());
  EXPECT_NE(router->Begin(Asking(x)).copy, nullptr);
  ShadowReport report = *router->ReadShadow();
  EXPECT_EQ(report.equal + report.different + report.failed + report.dropped, 0u) << "nothing to compare with";
}

TEST_F(ShadowTest, ThePercentageOfRequestsIsCopied) {
  std::shared_ptr<const Router> router = Make({.shadow = 3, .shadow_percent = 20});
  const std::vector<float> x = {1};
  int copied = 0;
  for (int i = 0; i < 1000; ++i) copied += router->Begin(Asking(x)).copy != nullptr;
  EXPECT_NEAR(copied, 200, 2);
}

}  // namespace
}  // namespace tandem::serving
