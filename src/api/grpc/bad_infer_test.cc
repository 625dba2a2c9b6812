// Requests to infer that are wrong or too large: each gets its answer, and the next one is served.
#include <gmock/gmock.h>

#include <functional>

#include "api/grpc/testing/grpc_fixture.h"

namespace tandem::api::rpc::testing {
namespace {

using ::grpc::StatusCode;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using ::testing::HasSubstr;

class BadInferTest : public GrpcTest {
 protected:
  BadInferTest() { Start(); }
};

struct BadRequest {
  const char* name;
  std::function<void(ModelInferRequest*)> spoil;
  const char* message;
};

void Parameter(ModelInferRequest* request, const char* key, const char* text) {
  (*request->mutable_parameters())[key].set_string_param(text);
}

const BadRequest kBadRequests[] = {
    {"no model", [](auto* r) { r->clear_model_name(); }, "no 'model_name'"},
    {"no input", [](auto* r) { r->mutable_inputs(0)->clear_name(); }, "input 0 has no 'name'"},
    {"no datatype", [](auto* r) { r->mutable_inputs(0)->clear_datatype(); }, "input 'x': has no 'datatype'"},
    {"datatype", [](auto* r) { r->mutable_inputs(0)->set_datatype("FLOAT"); }, "datatype 'FLOAT' is unknown"},
    {"negative", [](auto* r) { r->mutable_inputs(0)->set_shape(0, -1); }, "negative dimension -1"},
    {"dimensions",
     [](auto* r) {
       for (int i = 0; i < 20; ++i) r->mutable_inputs(0)->add_shape(1);
     },
     "more than 16"},
    {"size", [](auto* r) { r->mutable_inputs(0)->set_shape(0, 3); }, "input 'x'"},
    {"huge shape", [](auto* r) { r->mutable_inputs(0)->set_shape(0, int64_t{1} << 40); }, "input 'x'"},
    {"overflow",
     [](auto* r) {
       for (int i = 0; i < 3; ++i) r->mutable_inputs(0)->add_shape(int64_t{1} << 40);
     },
     "elements"},
    {"raw missing", [](auto* r) { r->add_inputs()->CopyFrom(r->inputs(0)), r->mutable_inputs(1)->set_name("y"); },
     "has 1 inputs"},
    {"raw left over", [](auto* r) { r->add_raw_input_contents("a"); }, "raw_input_contents has 2 entries"},
    {"both", [](auto* r) { r->mutable_inputs(0)->mutable_contents()->add_uint_contents(1); },
     "both 'contents' and raw"},
    {"twice", [](auto* r) { r->add_inputs()->CopyFrom(r->inputs(0)); }, "input 'x' is given twice"},
    {"output", [](auto* r) { r->add_outputs()->set_name("z"); }, "has no output 'z'"},
    {"output twice", [](auto* r) { r->add_outputs()->set_name("x"), r->add_outputs()->set_name("x"); }, "listed twice"},
    {"nameless output", [](auto* r) { r->add_outputs(); }, "has no name"},
    {"priority", [](auto* r) { Parameter(r, "priority", "high"); }, "parameter 'priority' is the text 'high'"},
    {"timeout", [](auto* r) { (*r->mutable_parameters())["timeout"].set_int64_param(-1); }, "parameter 'timeout'"},
    {"no value", [](auto* r) { (*r->mutable_parameters())["priority"]; }, "parameter 'priority' has no value"},
    {"final", [](auto* r) { Parameter(r, "triton_enable_empty_final_response", "yes"); }, "must be true or false"},
    {"region",
     [](auto* r) { (*r->mutable_inputs(0)->mutable_parameters())["shared_memory_region"].set_string_param("r"); },
     "without 'shared_memory_byte_size'"},
    {"contents missing", [](auto* r) { r->clear_raw_input_contents(); }, "'contents.uint_contents' has 0 elements"},
    {"contents too large",
     [](auto* r) {
       r->clear_raw_input_contents();
       for (int i = 0; i < 4; ++i) r->mutable_inputs(0)->mutable_contents()->add_uint_contents(256);
     },
     "element 0 of 'contents.uint_contents' is 256, which is no UINT8"},
    {"half contents",
     [](auto* r) {
       r->clear_raw_input_contents();
       r->mutable_inputs(0)->set_datatype("FP16");
     },
     "raw_input_contents"},
    {"texts", [](auto* r) { r->mutable_inputs(0)->set_datatype("BYTES"); }, "BYTES element 0"},
};

TEST_F(BadInferTest, RefusesBadRequestsByNameAndGoesOn) {
  const ModelInferRequest good = RawRequest("echo", "UINT8", 4, "\xff\xff\xff\xff");
  for (const BadRequest& bad : kBadRequests) {
    ModelInferRequest request = good;
    bad.spoil(&request);
    ModelInferResponse response;
    ::grpc::Status status = Infer(request, &response);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << bad.name << ": " << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(bad.message)) << bad.name;
    EXPECT_TRUE(Infer(good, &response).ok()) << bad.name;
  }
}

TEST_F(BadInferTest, RefusesBytesThatAreNoMessage) {
  const std::string path = "/inference.GRPCInferenceService/ModelInfer";
  const std::string whole = RawRequest("echo", "UINT8", 4, "abcd").SerializeAsString();
  for (const std::string& bytes :
       {std::string("\xff\xff\xff\xff"), std::string("\x3a\xff\xff\xff\xff\x0f"), std::string("\x0b"),
        std::string("\x3a\x05 ab"), std::string("\x0a\x02\xff\xfe"), whole.substr(0, whole.size() - 1)}) {
    ::grpc::Status status = AskRaw(path, bytes);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
  }
  std::string answer;
  EXPECT_TRUE(AskRaw(path, whole, &answer).ok());
  ModelInferResponse response;
  EXPECT_TRUE(response.ParseFromString(answer));
  EXPECT_EQ(response.raw_output_contents(0), "abcd");
}

TEST_F(BadInferTest, RefusesAMessageOfManyEmptyFields) {
  ModelInferRequest request = RawRequest("echo", "UINT8", 4, "abcd");
  for (int i = 0; i < 100'000; ++i) request.add_raw_input_contents("");
  ModelInferResponse response;
  ::grpc::Status status = Infer(request, &response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("more than"));
}

TEST_F(GrpcTest, RefusesMessagesThatUnpackToMoreThanTheLimit) {
  settings_.max_message_bytes = 100'000;
  Start();
  for (auto algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    for (int size : {90'000, 5'000'000}) {
      ::grpc::ClientContext context;
      context.set_compression_algorithm(algorithm);
      ModelInferResponse response;
      auto status = stub_->ModelInfer(&context, RawRequest("echo", "UINT8", size, std::string(size, 'z')), &response);
      EXPECT_EQ(status.error_code(), size > 100'000 ? StatusCode::RESOURCE_EXHAUSTED : StatusCode::OK)
          << status.error_message();
    }
  }
  ::grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  auto stream = stub_->ModelStreamInfer(&context);
  inference::ModelStreamInferResponse response;
  ASSERT_TRUE(stream->Write(RawRequest("echo", "UINT8", 90'000, std::string(90'000, 'z'))));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.infer_response().raw_output_contents(0).size(), 90'000u);
  ASSERT_TRUE(stream->Write(RawRequest("echo", "UINT8", 5'000'000, std::string(5'000'000, 'z'))));
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcTest, RefusesMessagesOverTheLimit) {
  settings_.max_message_bytes = 10'000;
  Start();
  ModelInferResponse response;
  ::grpc::Status status = Infer(RawRequest("echo", "UINT8", 10'001, std::string(10'001, 'a')), &response);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(Infer(RawRequest("echo", "UINT8", 4, "abcd"), &response).ok());
}

}  // namespace
}  // namespace tandem::api::rpc::testing
