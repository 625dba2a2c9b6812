#include <gmock/gmock.h>

#include <set>
#include <thread>

#include "api/grpc/testing/grpc_fixture.h"
#include "base/strings.h"

namespace tandem::api::rpc::testing {
namespace {

using ::grpc::StatusCode;
using inference::ModelInferRequest;
using inference::ModelStreamInferResponse;
using ::testing::HasSubstr;

class StreamTest : public GrpcTest {
 protected:
  StreamTest() { Start(); }
  void Open() { stream_ = stub_->ModelStreamInfer(&context_); }
  void Send(const std::string& model, const std::string& id, const std::string& bytes = "abcd") {
    ModelInferRequest request = RawRequest(model, "UINT8", static_cast<int64_t>(bytes.size()), bytes);
    request.set_id(id);
    ASSERT_TRUE(stream_->Write(request));
  }
  ModelStreamInferResponse Next() {
    ModelStreamInferResponse response;
    EXPECT_TRUE(stream_->Read(&response));
    return response;
  }

  ::grpc::ClientContext context_;
  std::unique_ptr<::grpc::ClientReaderWriter<ModelInferRequest, ModelStreamInferResponse>> stream_;
};

TEST_F(StreamTest, AnswersEachRequestAndEndsWithItsClient) {
  Open();
  for (int i = 0; i < 300; ++i) {
    std::string bytes(1 + i * 577 % 80'000, 'b');
    Send("echo", StrCat(i), bytes);
    ModelStreamInferResponse response = Next();
    EXPECT_EQ(response.error_message(), "");
    EXPECT_EQ(response.infer_response().id(), StrCat(i));
    EXPECT_TRUE(response.infer_response().raw_output_contents(0) == bytes);
  }
  stream_->WritesDone();
  ModelStreamInferResponse none;
  EXPECT_FALSE(stream_->Read(&none));
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(StreamTest, AnswersWhatIsOnItsWayAfterTheClientsLastWord) {
  Open();
  std::thread writer([this] {
    for (int i = 0; i < 200; ++i) Send("echo", StrCat(i));
    stream_->WritesDone();
  });
  std::set<std::string> ids;
  ModelStreamInferResponse response;
  while (stream_->Read(&response)) ids.insert(response.infer_response().id());
  writer.join();
  EXPECT_EQ(ids.size(), 200u);
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(StreamTest, AnswersInTheOrderOfFinishing) {
  Open();
  Send("later", "slow");
  Recorded().waiting.WaitFor(1);
  Send("echo", "quick");
  EXPECT_EQ(Next().infer_response().id(), "quick");
  Recorded().waiting.FinishOldest();
  EXPECT_EQ(Next().infer_response().id(), "slow");
  stream_->WritesDone();
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(StreamTest, BoundsWhatIsOnItsWay) {
  Open();
  std::thread writer([this] {
    for (int i = 0; i < 100; ++i) Send("later", StrCat(i));
    stream_->WritesDone();
  });
  Recorded().waiting.WaitFor(64);
  Recorded().waiting.LetWorkersRun(0);
  std::set<std::string> ids;
  ModelStreamInferResponse response;
  while (stream_->Read(&response)) ids.insert(response.infer_response().id());
  writer.join();
  EXPECT_EQ(ids.size(), 100u);
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(StreamTest, GoesOnAfterAnError) {
  Open();
  Send("nope", "first");
  ModelStreamInferResponse response = Next();
  EXPECT_THAT(response.error_message(), HasSubstr("there is no model 'nope'"));
  EXPECT_EQ(response.infer_response().id(), "first");
  Send("echo", "second");
  EXPECT_EQ(Next().infer_response().id(), "second");
  stream_->WritesDone();
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(StreamTest, EndsWithTheErrorsStatusWhereTheClientWantsIt) {
  context_.AddMetadata("triton_grpc_error", "true");
  Open();
  Send("echo", "first");
  EXPECT_EQ(Next().infer_response().id(), "first");
  Send("nope", "second");
  ModelStreamInferResponse none;
  EXPECT_FALSE(stream_->Read(&none));
  ::grpc::Status status = stream_->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("there is no model 'nope'"));
}

TEST_F(StreamTest, MarksFinalResponsesWhereTheyAreAskedFor) {
  Open();
  ModelInferRequest request = RawRequest("echo", "UINT8", 1, "a");
  (*request.mutable_parameters())["triton_enable_empty_final_response"].set_bool_param(true);
  ASSERT_TRUE(stream_->Write(request));
  EXPECT_TRUE(Next().infer_response().parameters().at("triton_final_response").bool_param());
  stream_->WritesDone();
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(StreamTest, CancelsAllThatWaits) {
  Open();
  for (int i = 0; i < 3; ++i) Send("later", StrCat(i));
  Recorded().waiting.WaitFor(3);
  context_.TryCancel();
  WaitForCancelled();
  EXPECT_EQ(stream_->Finish().error_code(), StatusCode::CANCELLED);
  Recorded().waiting.LetWorkersRun(0);
  while (Recorded().done_failed < 3) std::this_thread::yield();
  EXPECT_EQ(Recorded().cancelled, 3);
}

TEST_F(StreamTest, IsReusedAfterClientsThatLeft) {
  for (int i = 0; i < 50; ++i) {
    ::grpc::ClientContext context;
    auto stream = stub_->ModelStreamInfer(&context);
    ModelInferRequest request = RawRequest("echo", "UINT8", 4, "abcd");
    request.set_id(StrCat(i));
    ASSERT_TRUE(stream->Write(request));
    if (i % 3 == 0) continue;  // leaves at once
    ModelStreamInferResponse response;
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.infer_response().id(), StrCat(i));
    if (i % 3 == 1) continue;  // leaves without a word
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
  }
}

TEST_F(StreamTest, EndsWhenTheServerStops) {
  Open();
  Send("echo", "first");
  EXPECT_EQ(Next().infer_response().id(), "first");
  std::thread stopper([this] { server_->Stop(30); });
  ModelStreamInferResponse none;
  EXPECT_FALSE(stream_->Read(&none));
  EXPECT_EQ(stream_->Finish().error_code(), StatusCode::UNAVAILABLE);
  stopper.join();
}

}  // namespace
}  // namespace tandem::api::rpc::testing
