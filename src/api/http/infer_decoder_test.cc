#include "api/http/infer_decoder.h"

#include <gmock/gmock.h>

#include "api/http/infer_encoder.h"
#include "api/http/testing/fake_inference.h"
#include "api/v2/testing/shm_object.h"

namespace tandem::api::http {
namespace {

using ::testing::HasSubstr;
using v2::testing::ShmObject;

class InferDecoderTest : public ::testing::Test {
 protected:
  absl::Status Decode(std::string_view json, std::string_view tensors = "", std::string_view model = "echo") {
    session_ = *inference_.Open(model, "");
    // A buffer of exactly the size that the decoder may read.
    body_ = StrCat(json, tensors, std::string(simdjson::SIMDJSON_PADDING, '\0'));
    std::string_view body = std::string_view(body_).substr(0, json.size() + tensors.size());
    return decoder_.Decode(body, json.empty() ? 0 : static_cast<int64_t>(json.size()), *session_, &call_);
  }
  // What the door does with a request, on this thread.
  absl::Status Infer(std::string_view json, std::string_view tensors = "", std::string_view model = "echo") {
    class Nobody : public InferRequest::Owner {
      void Finished(InferRequest*) override {}
    } nobody;
    TANDEM_RETURN_IF_ERROR(Decode(json, tensors, model));
    TANDEM_RETURN_IF_ERROR(v2::PrepareOutputs(*session_, regions_, &call_));
    call_.request.owner = &nobody;
    session_->Start(&call_.request);
    if (before_finish_) before_finish_();
    TANDEM_RETURN_IF_ERROR(call_.request.status);
    TANDEM_RETURN_IF_ERROR(v2::FinishOutputs(*session_, &call_));
    return EncodeAnswer(*session_, call_, &answer_);
  }
  const InputTensor& input() { return call_.request.inputs[0]; }

  testing::FakeInference inference_;
  std::unique_ptr<InferSession> session_;
  v2::SharedMemory regions_;
  InferDecoder decoder_{64, &regions_};
  v2::InferCall call_;
  InferAnswer answer_;
  std::string body_;
  std::function<void()> before_finish_;
};

// One input of 4 FP32 with the given parameters, and wanted outputs.
std::string Request(std::string_view parameters, std::string_view outputs = "") {
  return StrCat(R"({"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{)", parameters, "}}]",
                outputs.empty() ? "" : ",\"outputs\":[", outputs, outputs.empty() ? "" : "]", "}");
}
std::string Region(std::string_view region, size_t offset, size_t size) {
  return StrCat(R"("shared_memory_region":")", region, R"(","shared_memory_offset":)", offset,
                R"(,"shared_memory_byte_size":)", size);
}
std::string Output(std::string_view parameters) { return StrCat(R"({"name":"x","parameters":{)", parameters, "}}"); }

TEST_F(InferDecoderTest, ReadsTheParametersOfARequest) {
  ASSERT_TRUE(Decode(R"({"id":"i","parameters":{"sequence_id":18446744073709551615,"sequence_start":true,"priority":2,
    "timeout":7,"custom":"text","other":1.5,"third":false},"inputs":[]})")
                  .ok());
  EXPECT_EQ(call_.request.id, "i");
  EXPECT_EQ(call_.request.sequence.id, UINT64_MAX);
  EXPECT_TRUE(call_.request.sequence.start);
  EXPECT_EQ(call_.request.priority, 2);
  EXPECT_EQ(call_.timeout_us, 7);
  ASSERT_TRUE(Decode(R"({"parameters":{"sequence_id":"abc","sequence_end":true},"inputs":[]})").ok());
  EXPECT_EQ(call_.request.sequence.text_id, "abc");
  EXPECT_FALSE(call_.request.sequence.start) << "of the request before";
  EXPECT_EQ(call_.request.priority, 0);
}

TEST_F(InferDecoderTest, UsesAnInputInSharedMemoryWhereItIs) {
  ShmObject object(4096);
  ASSERT_TRUE(regions_.Register({"r", object.key(), 0, 4096}).ok());
  memcpy(object.bytes() + 64, "0123456789abcdef", 16);
  ASSERT_TRUE(Decode(Request(Region("r", 64, 16))).ok());
  EXPECT_EQ(memcmp(input().data, "0123456789abcdef", 16), 0);
  object.bytes()[64] = 'X';
  EXPECT_EQ(*static_cast<const char*>(input().data), 'X') << "not a copy";
  ASSERT_TRUE(Decode(Request(Region("r", 65, 16))).ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(input().data) % 64, 0) << "a copy, as engines want them aligned";
  EXPECT_EQ(call_.leases.size(), 1);
}

TEST_F(InferDecoderTest, CopiesTextsFromSharedMemoryBeforeItChecksThem) {
  ShmObject object(64);
  ASSERT_TRUE(regions_.Register({"r", object.key(), 0, 64}).ok());
  memcpy(object.bytes(), "\x02\0\0\0ab", 6);
  ASSERT_TRUE(Decode(StrCat(R"({"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","parameters":{)",
                            Region("r", 0, 6), "}}]}"))
                  .ok());
  object.bytes()[0] = '\x7f';
  EXPECT_EQ(*static_cast<const char*>(input().data), 2);
}

TEST_F(InferDecoderTest, WritesOutputsIntoSharedMemory) {
  ShmObject object(4096);
  ASSERT_TRUE(regions_.Register({"r", object.key(), 0, 4096}).ok());
  for (size_t offset : {0, 64, 65}) {  // the last cannot be borrowed, so it is copied
    memset(object.bytes(), 0, 4096);
    ASSERT_TRUE(Infer(Request("\"binary_data_size\":16", Output(Region("r", offset, 100))), "0123456789abcdef").ok());
    EXPECT_EQ(object.view(offset, 17), std::string_view("0123456789abcdef\0", 17));
    EXPECT_THAT(answer_.json, Not(HasSubstr("parameters")));
    EXPECT_THAT(answer_.json, Not(HasSubstr("data\"")));
    EXPECT_FALSE(answer_.binary);
  }
  EXPECT_FALSE(inference_.recorded.unaligned);
}

TEST_F(InferDecoderTest, LetsNoLaterRequestWriteIntoTheRegionOfAnEarlierOne) {
  ShmObject object(4096);
  ASSERT_TRUE(regions_.Register({"r", object.key(), 0, 4096}).ok());
  ASSERT_TRUE(Infer(Request("\"binary_data_size\":16", Output(Region("r", 0, 4096))), "0123456789abcdef").ok());
  ASSERT_TRUE(Infer(Request("\"binary_data_size\":16"), "ABCDEFGHIJKLMNOP").ok());
  EXPECT_EQ(object.view(0, 4), "0123");
}

TEST_F(InferDecoderTest, RefusesARegionThatIsTooSmallForTheOutput) {
  ShmObject object(4096);
  ASSERT_TRUE(regions_.Register({"r", object.key(), 0, 4096}).ok());
  absl::Status status = Infer(Request("\"binary_data_size\":16", Output(Region("r", 0, 8))), "0123456789abcdef");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'x' has 16 bytes, but shared_memory_byte_size is 8"));
  EXPECT_EQ(object.bytes()[0], '\0') << "nothing was written";
}

TEST_F(InferDecoderTest, TellsAClientThatMadeItsRegionShorterMeanwhile) {
  ShmObject object(8192);
  ASSERT_TRUE(regions_.Register({"r", object.key(), 0, 8192}).ok());
  before_finish_ = [&] {
    object.Resize(0);
    call_.leases[0].data[0] = std::byte{1};
  };
  absl::Status status = Infer(Request(Region("r", 0, 16)));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("made shorter while it was used"));
}

TEST_F(InferDecoderTest, GivesClassesAsTextsAndAsBinary) {
  std::string_view json = R"({"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2,4,3]}],"outputs":[)";
  ASSERT_TRUE(Infer(StrCat(json, Output("\"classification\":1"), "]}"), "", "batched").ok());
  EXPECT_THAT(answer_.json,
              HasSubstr(R"("datatype":"BYTES","shape":[2,1],"data":["2.000000:1:dog","4.000000:0:cat"])"));
  ASSERT_TRUE(Infer(StrCat(json, Output("\"classification\":3,\"binary_data\":true"), "]}"), "", "echo").ok());
  EXPECT_THAT(answer_.json, HasSubstr(R"("shape":[3],"parameters":{"binary_data_size":42})"));
  EXPECT_EQ(answer_.blobs[0].substr(0, 14), std::string_view("\x0a\0\0\0"
                                                             "4.000000:2",
                                                             14));
}

TEST_F(InferDecoderTest, TakesARawRequestAsABatchOfOneWhereTheModelBatches) {
  ASSERT_TRUE(Decode("", "0123456789abcdef", "batched").ok());
  EXPECT_EQ(input().shape, Shape({1, 4}));
  EXPECT_FALSE(Decode("", std::string(32, 'x'), "batched").ok());
  ASSERT_TRUE(Decode("", std::string(32, 'x'), "echo").ok());
  EXPECT_EQ(input().shape, Shape({2, 4}));
}

TEST_F(InferDecoderTest, StopsAtTheFirstInputAndOutputTooMany) {
  std::string many;
  for (int i = 0; i < 5000; ++i) StrAppend(&many, i == 0 ? "" : ",", R"({"name":"n)", i, "\"}");
  absl::Status outputs = Decode(StrCat(R"({"inputs":[],"outputs":[)", many, "]}"));
  EXPECT_THAT(std::string(outputs.message()), HasSubstr("no output 'n1'"));
  EXPECT_LE(call_.wanted.size(), 1);
  absl::Status inputs = Decode(R"({"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]},)"
                               R"({"name":"z","shape":[1],"datatype":"INT8","data":[1]}]})");
  EXPECT_THAT(std::string(inputs.message()), HasSubstr("input 'z': model 'echo' has 1 inputs"));
}

struct Bad {
  std::string json;
  const char* message;
};
class BadInferDecoderTest : public InferDecoderTest, public ::testing::WithParamInterface<Bad> {};

TEST_P(BadInferDecoderTest, IsRefusedByName) {
  ShmObject object(100);
  ASSERT_TRUE(regions_.Register({"r", object.key(), 0, 100}).ok());
  absl::Status status = Infer(GetParam().json);
  EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsNotFound(status)) << status << GetParam().json;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message)) << GetParam().json;
}

std::string Parameters(std::string_view parameters) {
  return StrCat(R"({"parameters":)", parameters, R"(,"inputs":[]})");
}

INSTANTIATE_TEST_SUITE_P(
    All, BadInferDecoderTest,
    ::testing::Values(
        Bad{Parameters("7"), "'parameters' is a number"}, Bad{Parameters(R"({"a":[1]})"), "parameter 'a' is an array"},
        Bad{Parameters(R"({"a":null})"), "parameter 'a' is null"},
        Bad{Parameters(R"({"a":{"b":1}})"), "parameter 'a' is an object"},
        Bad{Parameters(R"({"sequence_id":1.5})"), "'sequence_id'"},
        Bad{Parameters(R"({"sequence_start":"yes"})"), "'sequence_start' is the text 'yes'"},
        Bad{Parameters(R"({"sequence_end":1})"), "'sequence_end'"},
        Bad{Parameters(R"({"priority":-1})"), "'priority' is the number -1"},
        Bad{Parameters(R"({"timeout":"1s"})"), "'timeout'"},
        Bad{Parameters(R"({"timeout":-5})"), "'timeout' is the number -5"},
        Bad{Parameters(R"({"binary_data_output":1})"), "'binary_data_output'"},
        Bad{Parameters(R"({"triton_x":1})"), "'triton_x'"},
        Bad{Request(Region("r", 0, 16) + ",\"binary_data_size\":0"), "both parameter 'binary_data_size' and"},
        Bad{R"({"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1],"parameters":{)" + Region("r", 0, 1) +
                "}}]}",
            "both 'data' and parameter 'shared_memory_region'"},
        Bad{Request(""), "neither 'data' nor"},
        Bad{Request("\"shared_memory_byte_size\":16"), "without 'shared_memory_region'"},
        Bad{Request("\"shared_memory_region\":\"r\""), "without 'shared_memory_byte_size'"},
        Bad{Request("\"shared_memory_region\":7,\"shared_memory_byte_size\":16"),
            "'shared_memory_region' is the number"},
        Bad{Request("\"shared_memory_region\":\"r\",\"shared_memory_byte_size\":-1"), "'shared_memory_byte_size'"},
        Bad{Request(Region("missing", 0, 16)), "input 'x': region 'missing'"},
        Bad{Request(Region("r", 90, 16)), "input 'x': region 'r' has 100 bytes"},
        Bad{Request(Region("r", 0, 15)), "input 'x': FP32 of shape [1,4] needs 4 elements"},
        Bad{Request(Region("r", 0, 16), Output(Region("missing", 0, 16))), "output 'x': region 'missing'"},
        Bad{Request(Region("r", 0, 16), Output(Region("r", 96, 16))), "output 'x': region 'r' has 100 bytes"},
        Bad{Request(Region("r", 0, 16), Output("\"shared_memory_offset\":0")), "without 'shared_memory_region'"},
        Bad{Request(Region("r", 0, 16), Output(Region("r", 0, 16) + ",\"classification\":1")), "both 'classification'"},
        Bad{Request(Region("r", 0, 16), Output(Region("r", 0, 16) + ",\"binary_data\":true")), "both 'binary_data'"},
        Bad{Request(Region("r", 0, 16), Output("\"classification\":-1")), "output 'x': parameter 'classification'"},
        Bad{Request(Region("r", 0, 16), Output("\"classification\":true")), "'classification' is true"},
        Bad{Request(Region("r", 0, 16), Output("\"binary_data\":0")), "'binary_data' is the number 0"},
        Bad{Request(Region("r", 0, 16), R"({"parameters":{}})"), "has no name"},
        Bad{Request(Region("r", 0, 16), R"({"name":"x","parameters":3})"), "'parameters' is a number"},
        Bad{Request(Region("r", 0, 16), "7"), "an entry of 'outputs' is a number"},
        Bad{R"({"inputs":[{"name":"x","shape":[1],"datatype":"FP16","data":[1]}]})", "send it as binary data"},
        Bad{R"({"inputs":[{"name":"x","shape":[1],"datatype":"BF16","data":[1]}]})", "send it as binary data"}));

}  // namespace
}  // namespace tandem::api::http
