// The threads of the gRPC door: one leads, and lets go of the lead before it runs an engine for long.
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "api/grpc/io_member.h"
#include "api/grpc/testing/grpc_fixture.h"
#include "base/clock.h"

namespace tandem::api::rpc::testing {
namespace {

class IoGroupTest : public GrpcTest {
 protected:
  std::thread AskSlow() {
    return std::thread([this] {
      inference::ModelInferResponse response;
      EXPECT_TRUE(Infer(RawRequest("slow", "UINT8", 1, "a"), &response).ok());
    });
  }
  void AskEcho() {
    inference::ModelInferResponse response;
    EXPECT_TRUE(Infer(RawRequest("echo", "UINT8", 1, "b"), &response).ok());
  }
};

TEST_F(IoGroupTest, AnswersOthersWhileARequestRunsLong) {
  settings_.io_threads = 2;
  Start();
  std::thread slow = AskSlow();
  Recorded().slow.WaitForWaiters(1);
  for (int i = 0; i < 10; ++i) AskEcho();
  Recorded().slow.Open();
  slow.join();
}

TEST_F(IoGroupTest, GivesTheLeadToWhoeverIsFreeFirst) {
  settings_.io_threads = 3;
  Start();
  std::vector<std::thread> slow;
  for (int i = 1; i <= 3; ++i) {
    slow.push_back(AskSlow());
    Recorded().slow.WaitForWaiters(i);
  }
  Recorded().slow.Open();
  AskEcho();
  for (std::thread& thread : slow) thread.join();
}

TEST_F(IoGroupTest, RunsWhatIsQueuedOnThreadsThatDoNotLead) {
  settings_.io_threads = 2;
  Start();
  std::thread slow = AskSlow();
  Recorded().slow.WaitForWaiters(1);
  std::thread later([this] {
    inference::ModelInferResponse response;
    EXPECT_TRUE(Infer(RawRequest("later", "UINT8", 1, "a"), &response).ok());
  });
  Recorded().waiting.WaitFor(1);
  Recorded().waiting.LetWorkersRun(0);
  later.join();
  Recorded().slow.Open();
  slow.join();
}

TEST_F(IoGroupTest, EndsAStreamWhoseLastRequestRanLong) {
  settings_.io_threads = 2;
  Start();
  ::grpc::ClientContext context;
  auto stream = stub_->ModelStreamInfer(&context);
  ASSERT_TRUE(stream->Write(RawRequest("slow", "UINT8", 1, "a")));
  Recorded().slow.WaitForWaiters(1);
  ASSERT_TRUE(stream->WritesDone());
  AskEcho();
  Recorded().slow.Open();
  inference::ModelStreamInferResponse response;
  EXPECT_TRUE(stream->Read(&response));
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(IoGroupTest, StopsWhileARequestRunsLong) {
  settings_.io_threads = 2;
  Start();
  std::thread slow = AskSlow();
  Recorded().slow.WaitForWaiters(1);
  std::thread stopper([this] { server_->Stop(60); });
  Recorded().slow.Open();
  slow.join();
  stopper.join();
  EXPECT_EQ(Recorded().waiting.workers, 0);
}

// Several groups of threads.
TEST_F(IoGroupTest, ServesWithMoreThreadsThanAGroupHas) {
  settings_.io_threads = 9;
  Start();
  std::vector<std::thread> clients;
  for (int i = 0; i < 9; ++i) {
    clients.emplace_back([this] {
      for (int n = 0; n < 20; ++n) AskEcho();
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(Recorded().done_ok, 180);
}

TEST(IoMember, ASignalEndsItsSleepOrTheNextOneAtOnceAndTimeEndsItToo) {
  IoMember member(nullptr, "member");
  member.Signal();
  member.WaitUntil(WorkSource::kNever);  // at once
  const int64_t until = Clock::Real()->MonotonicNanos() + 1'000'000;
  member.WaitUntil(until);
  EXPECT_GE(Clock::Real()->MonotonicNanos(), until);
  std::thread signaller([&] { member.Signal(); });
  member.WaitUntil(WorkSource::kNever);
  signaller.join();
}

TEST_F(IoGroupTest, AnswersProbesWhileEveryControlThreadIsHeld) {
  settings_.control_threads = 1;
  http::testing::Latch latch;
  std::atomic<bool> held = true;
  Method hold{.path = "/test.Extra/Hold"};
  hold.unary = [&](const Context&, ::grpc::ByteBuffer*, ::grpc::ByteBuffer* answer) {
    latch.Wait();
    held = false;
    WriteMessage(inference::ServerLiveResponse(), answer);
    return absl::OkStatus();
  };
  Start({std::move(hold)});
  std::thread client([this] { EXPECT_TRUE(AskRaw("/test.Extra/Hold", "").ok()); });
  latch.WaitForWaiters(1);
  const auto answered = [](auto call) {
    ::grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    return call(&context).ok();
  };
  inference::ServerLiveResponse live;
  EXPECT_TRUE(answered([&](auto* c) { return stub_->ServerLive(c, inference::ServerLiveRequest(), &live); }));
  inference::ServerReadyResponse ready;
  EXPECT_TRUE(answered([&](auto* c) { return stub_->ServerReady(c, inference::ServerReadyRequest(), &ready); }));
  inference::ModelReadyRequest model;
  model.set_name("echo");
  inference::ModelReadyResponse model_ready;
  EXPECT_TRUE(answered([&](auto* c) { return stub_->ModelReady(c, model, &model_ready); }));
  EXPECT_TRUE(live.live() && ready.ready() && model_ready.ready());
  auto health = ::grpc::health::v1::Health::NewStub(channel_);
  ::grpc::health::v1::HealthCheckResponse response;
  EXPECT_TRUE(answered([&](auto* c) { return health->Check(c, ::grpc::health::v1::HealthCheckRequest(), &response); }));
  EXPECT_EQ(response.status(), ::grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_TRUE(held) << "the control thread is still held";
  latch.Open();
  client.join();
}

}  // namespace
}  // namespace tandem::api::rpc::testing
