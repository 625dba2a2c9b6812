#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "api/http/testing/server_fixture.h"
#include "base/clock.h"

namespace tandem::api::http::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kEcho[] = "/v2/models/echo/infer";
constexpr char kJsonEcho[] =
    R"({"id":"7","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[0.25,1,-2,3e2]}]})";

template <typename T>
std::string BytesOf(std::initializer_list<T> values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

std::string TensorHeader(size_t bytes) { return StrCat("Inference-Header-Content-Length: ", bytes, "\r\n"); }

class InferTest : public ServerTest {
 protected:
  void SetUp() override { Start(); }
  Answer AskBinary(std::string_view json, std::string_view tensors, std::string_view path = kEcho) {
    return Ask("POST", path, StrCat(json, tensors), TensorHeader(json.size()));
  }
};

TEST_F(InferTest, AnswersJsonWithJson) {
  Answer answer = Ask("POST", kEcho, kJsonEcho);
  EXPECT_EQ(answer.code, 200);
  EXPECT_EQ(answer.headers["content-type"], "application/json");
  EXPECT_EQ(answer.headers["server"], "tandem");
  EXPECT_EQ(answer.headers.count("inference-header-content-length"), 0);
  EXPECT_EQ(answer.body, R"({"model_name":"echo","model_version":"1","id":"7","outputs":[{"name":"x",)"
                         R"("datatype":"FP32","shape":[1,4],"data":[0.25,1,-2,300]}]})");
  EXPECT_EQ(fakes_.inference.recorded.done_ok, 1);
}

TEST_F(InferTest, TakesNestedDataAndAVersionInThePath) {
  Answer answer = Ask("POST", "/v2/models/echo/versions/1/infer",
                      R"({"inputs":[{"data":[[1,2],[3,4]],"name":"x","shape":[2,2],"datatype":"INT64"}],"id":""})");
  EXPECT_EQ(answer.code, 200);
  EXPECT_THAT(answer.body, HasSubstr(R"("shape":[2,2],"data":[1,2,3,4])"));
  EXPECT_FALSE(answer.Has("\"id\""));
  EXPECT_EQ(Ask("POST", "/v2/models/echo/versions/9/infer", kJsonEcho).code, 404);
}

TEST_F(InferTest, DecodesPercentEncodedModelNames) {
  Answer answer = Ask("POST", "/v2/models/%C3%A9t%c3%a9/infer", kJsonEcho);
  EXPECT_EQ(answer.code, 200);
  EXPECT_THAT(answer.body, HasSubstr("\"model_name\":\"\xc3\xa9t\xc3\xa9\""));
  EXPECT_EQ(Ask("POST", "/v2/models/%C3%G9/infer", kJsonEcho).code, 400);
}

TEST_F(InferTest, AnswersBinaryWithBinary) {
  std::string json = R"({"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}],)"
                     R"("outputs":[{"name":"x","parameters":{"binary_data":true}}]})";
  std::string tensor = BytesOf<float>({0.25, 1, -2, 300});
  Answer answer = AskBinary(json, tensor);
  ASSERT_EQ(answer.code, 200);
  EXPECT_EQ(answer.headers["content-type"], "application/octet-stream");
  size_t json_bytes = std::stoul(answer.headers["inference-header-content-length"]);
  EXPECT_EQ(answer.body.substr(json_bytes), tensor);
  EXPECT_THAT(answer.body.substr(0, json_bytes), HasSubstr(R"("parameters":{"binary_data_size":16})"));
  EXPECT_FALSE(fakes_.inference.recorded.unaligned);
}

TEST_F(InferTest, LetsAnOutputOverrideTheRequestsBinaryDefault) {
  std::string json = R"({"parameters":{"binary_data_output":true},"inputs":[)"
                     R"({"name":"x","shape":[2],"datatype":"FP32","data":[1,2]},)"
                     R"({"name":"y","shape":[1],"datatype":"INT64","data":[5]}],)"
                     R"("outputs":[{"name":"y"},{"name":"x","parameters":{"binary_data":false}}]})";
  Answer answer = Ask("POST", "/v2/models/pair/infer", json);
  ASSERT_EQ(answer.code, 200);
  size_t json_bytes = std::stoul(answer.headers["inference-header-content-length"]);
  EXPECT_EQ(answer.body.substr(json_bytes), BytesOf<int64_t>({5}));
  EXPECT_THAT(answer.body.substr(0, json_bytes), HasSubstr(R"("data":[1,2])"));
  EXPECT_LT(answer.body.find("\"y\""), answer.body.find("\"x\""));
}

TEST_F(InferTest, TakesARawBodyAsTheOnlyInput) {
  std::string tensor = BytesOf<float>({1, 2, 3, 4, 5, 6, 7, 8});
  Answer answer = Ask("POST", kEcho, tensor, TensorHeader(0));
  ASSERT_EQ(answer.code, 200) << answer.body;
  size_t json_bytes = std::stoul(answer.headers["inference-header-content-length"]);
  EXPECT_THAT(answer.body.substr(0, json_bytes), HasSubstr(R"("shape":[2,4])"));
  EXPECT_EQ(answer.body.substr(json_bytes), tensor);
  EXPECT_EQ(Ask("POST", kEcho, tensor.substr(1), TensorHeader(0)).code, 400);
  EXPECT_EQ(Ask("POST", "/v2/models/pair/infer", tensor, TensorHeader(0)).code, 400);
}

TEST_F(InferTest, EchoesEveryTypeThatJsonCanHold) {
  const std::pair<const char*, const char*> cases[] = {
      {"BOOL", "[true,false]"},
      {"UINT8", "[0,255]"},
      {"INT8", "[-128,127]"},
      {"UINT16", "[0,65535]"},
      {"INT16", "[-32768,32767]"},
      {"UINT32", "[0,4294967295]"},
      {"INT32", "[-2147483648,2147483647]"},
      {"UINT64", "[0,18446744073709551615]"},
      {"INT64", "[-9223372036854775808,9223372036854775807]"},
      {"FP32", "[-0.1,3.4028235e+38]"},
      {"FP64", "[0.1,1.7976931348623157e+308]"},
      {"BYTES", "[\"\",\"a\\\"\\n\xc3\xa9\"]"},
  };
  TestClient client = Connect();
  for (const auto& [type, data] : cases) {
    Answer answer = client.Ask(
        "POST", kEcho, StrCat(R"({"inputs":[{"name":"x","shape":[2],"datatype":")", type, R"(","data":)", data, "}]}"));
    EXPECT_EQ(answer.code, 200) << type << answer.body;
    EXPECT_THAT(answer.body, HasSubstr(StrCat("\"data\":", data))) << type;
  }
}

TEST_F(InferTest, SendsHalfTypesOnlyAsBinary) {
  for (const char* type : {"FP16", "BF16"}) {
    std::string inputs =
        StrCat(R"("inputs":[{"name":"x","shape":[2],"datatype":")", type, R"(","parameters":{"binary_data_size":4}}])");
    Answer refused = AskBinary(StrCat("{", inputs, "}"), "abcd");
    EXPECT_EQ(refused.code, 400);
    EXPECT_THAT(refused.body, HasSubstr("binary data"));
    Answer answer = AskBinary(StrCat(R"({"parameters":{"binary_data_output":true},)", inputs, "}"), "abcd");
    EXPECT_EQ(answer.code, 200);
    EXPECT_THAT(answer.body, ::testing::EndsWith("abcd"));
    Answer json =
        Ask("POST", kEcho, StrCat(R"({"inputs":[{"name":"x","shape":[1],"datatype":")", type, R"(","data":[1]}]})"));
    EXPECT_EQ(json.code, 400);
  }
}

TEST_F(InferTest, WritesNotANumberAndInfinitiesAsPythonDoes) {
  std::string json = R"({"inputs":[{"name":"x","shape":[3],"datatype":"FP32","parameters":{"binary_data_size":12}}]})";
  float inf = std::numeric_limits<float>::infinity();
  Answer answer = AskBinary(json, BytesOf<float>({NAN, inf, -inf}));
  EXPECT_THAT(answer.body, HasSubstr("[NaN,Infinity,-Infinity]"));
}

TEST_F(InferTest, TakesTensorsWithoutElements) {
  Answer answer = Ask("POST", kEcho, R"({"inputs":[{"name":"x","shape":[0,4],"datatype":"FP32","data":[]}]})");
  EXPECT_EQ(answer.code, 200);
  EXPECT_THAT(answer.body, HasSubstr(R"("shape":[0,4],"data":[])"));
  std::string json = R"({"parameters":{"binary_data_output":true},)"
                     R"("inputs":[{"name":"x","shape":[0],"datatype":"FP32","parameters":{"binary_data_size":0}}]})";
  answer = AskBinary(json, "");
  EXPECT_EQ(answer.code, 200);
  EXPECT_EQ(answer.headers["inference-header-content-length"], std::to_string(answer.body.size()));
}

TEST_F(InferTest, KeepsLargeBinaryTensorsAlignedWhereverTheyBegin) {
  std::string tensor(3'000'000, 'q');
  for (int pad = 0; pad < 5; ++pad) {
    std::string json =
        StrCat(R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[3000000],)",
               R"("datatype":"UINT8","parameters":{"binary_data_size":3000000}}])", std::string(pad, ' '), "}");
    Answer answer = AskBinary(json, tensor);
    ASSERT_EQ(answer.code, 200);
    EXPECT_THAT(answer.body.substr(answer.body.size() - tensor.size()), tensor);
  }
  EXPECT_FALSE(fakes_.inference.recorded.unaligned);
}

TEST_F(InferTest, PassesTheTimeoutOnAsADeadline) {
  std::string json =
      R"({"parameters":{"timeout":5000000},"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}]})";
  int64_t before = Clock::Real()->MonotonicNanos();
  EXPECT_EQ(Ask("POST", kEcho, json).code, 200);
  EXPECT_GE(fakes_.inference.recorded.last_deadline_ns, before + 5'000'000'000);
  EXPECT_EQ(Ask("POST", kEcho, kJsonEcho).code, 200);
  EXPECT_EQ(fakes_.inference.recorded.last_deadline_ns, 0);
}

TEST_F(InferTest, GivesTheEnginesErrorsTheirCodesAndCountsThem) {
  EXPECT_EQ(Ask("POST", "/v2/models/broken/infer", kJsonEcho).code, 500);
  EXPECT_EQ(Ask("POST", "/v2/models/throws/infer", kJsonEcho).code, 500);
  EXPECT_EQ(Ask("POST", "/v2/models/loading/infer", kJsonEcho).code, 503);
  Answer missing = Ask("POST", "/v2/models/nope/infer", kJsonEcho);
  EXPECT_EQ(missing.code, 404);
  EXPECT_EQ(missing.body, R"({"error":"there is no model 'nope'; there are: echo"})");
  EXPECT_EQ(fakes_.inference.recorded.done_failed, 2);
}

struct BadRequest {
  const char* json;
  const char* tensors;
  const char* message;
};

class BadInferTest : public InferTest, public ::testing::WithParamInterface<BadRequest> {};

TEST_P(BadInferTest, IsRefusedByNameAndTheConnectionGoesOn) {
  const BadRequest& bad = GetParam();
  TestClient client = Connect();
  std::string headers = *bad.tensors == '\0' ? "" : TensorHeader(strlen(bad.json));
  Answer answer = client.Ask("POST", kEcho, StrCat(bad.json, bad.tensors), headers);
  EXPECT_EQ(answer.code, 400);
  EXPECT_THAT(answer.body, HasSubstr(bad.message));
  EXPECT_EQ(client.Ask("POST", kEcho, kJsonEcho).code, 200);
}

#define ONE_INPUT(fields) "{\"inputs\":[{\"name\":\"x\"," fields "}]}"

INSTANTIATE_TEST_SUITE_P(
    All, BadInferTest,
    ::testing::Values(
        BadRequest{"", "", "not JSON"}, BadRequest{"\x01\xff\xfe{{{", "", "not JSON"},
        BadRequest{"[1,2]", "", "an object"}, BadRequest{"{\"inputs\":[", "", "not JSON"},
        BadRequest{"{}", "", "no 'inputs'"}, BadRequest{"{\"inputs\":7}", "", "'inputs' is a number"},
        BadRequest{"{\"inputs\":[3]}", "", "input 0: the entry is a number"},
        BadRequest{"{\"id\":5,\"inputs\":[]}", "", "'id' is a number"},
        BadRequest{"{\"inputs\":[{\"shape\":[1]}]}", "", "has no 'name'"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"data\":[1]"), "", "input 'x': has no 'datatype'"},
        BadRequest{ONE_INPUT("\"datatype\":\"FP32\",\"data\":[1]"), "", "has no 'shape'"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\""), "", "neither 'data' nor"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FLOAT\",\"data\":[1]"), "", "datatype 'FLOAT' is unknown"},
        BadRequest{ONE_INPUT("\"shape\":[-1],\"datatype\":\"FP32\",\"data\":[1]"), "", "negative dimension -1"},
        BadRequest{ONE_INPUT("\"shape\":[1.5],\"datatype\":\"FP32\",\"data\":[1]"), "", "whole number"},
        BadRequest{ONE_INPUT("\"shape\":\"[1]\",\"datatype\":\"FP32\",\"data\":[1]"), "", "'shape' is a text"},
        BadRequest{ONE_INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1]"), "", "fewer elements"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1,2]"), "", "more elements"},
        BadRequest{ONE_INPUT("\"shape\":[99999999999],\"datatype\":\"FP32\",\"data\":[1]"), "", "more elements than"},
        BadRequest{ONE_INPUT("\"shape\":[4294967296,4294967296,9],\"datatype\":\"FP32\",\"data\":[1]"), "",
                   "too many elements"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[\"a\"]"), "",
                   "element 0 of 'data' is a text"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[null]"), "", "is null"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1e39]"), "", "no FP32"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"INT8\",\"data\":[128]"), "", "128, which is no INT8"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"UINT8\",\"data\":[-1]"), "", "no UINT8"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"INT32\",\"data\":[1.5]"), "", "no INT32"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[5]"), "", "must be a text"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":{\"a\":1}"), "", "'data' is an object"},
        BadRequest{
            ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1],\"parameters\":{\"binary_data_size\":4}"),
            "abcd", "both 'data' and"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":{\"shared_memory_region\":\"r\"}"), "",
                   "without 'shared_memory_byte_size'"},
        BadRequest{"{\"parameters\":{\"sequence_id\":-3},\"inputs\":[]}", "", "'sequence_id' is the number -3"},
        BadRequest{"{\"inputs\":[],\"outputs\":[{\"name\":\"x\",\"parameters\":{\"classification\":\"3\"}}]}", "",
                   "'classification' is the text '3'"},
        BadRequest{"{\"inputs\":[],\"outputs\":[{\"name\":\"z\"}]}", "", "has no output 'z'"},
        BadRequest{"{\"inputs\":[],\"outputs\":[{\"name\":\"x\"},{\"name\":\"x\"}]}", "", "listed twice"},
        BadRequest{"{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[1]},"
                   "{\"name\":\"x\",\"shape\":[1],\"datatype\":\"INT8\",\"data\":[1]}]}",
                   "", "input 'x' is given twice"},
        BadRequest{ONE_INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":8}"), "abcd",
                   "4 missing"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":4}"), "abcdef",
                   "2 bytes are left over"},
        BadRequest{ONE_INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":4}"), "abcd",
                   "needs 2 elements of 4 bytes"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":-4}"), "abcd",
                   "'binary_data_size' is"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"BYTES\",\"parameters\":{\"binary_data_size\":4}"),
                   "\xff\xff\xff\xff", "BYTES element 0"},
        BadRequest{ONE_INPUT("\"shape\":[1],\"datatype\":\"BYTES\",\"parameters\":{\"binary_data_size\":2}"), "ab",
                   "cut off"}));

TEST_F(InferTest, RefusesJsonThatIsNestedTooDeep) {
  std::string deep(100'000, '[');
  Answer answer = Ask("POST", kEcho, StrCat(R"({"inputs":[{"name":"x","data":)", deep));
  EXPECT_EQ(answer.code, 400);
  std::string nested = StrCat(std::string(70, '['), "1", std::string(70, ']'));
  answer = Ask("POST", kEcho, StrCat(R"({"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":)", nested, "}]}"));
  EXPECT_EQ(answer.code, 400);
  EXPECT_THAT(answer.body, HasSubstr("too deep"));
}

TEST_F(InferTest, RefusesALengthHeaderBeyondTheBodyOrThatIsNoNumber) {
  EXPECT_EQ(Ask("POST", kEcho, kJsonEcho, TensorHeader(5000)).code, 400);
  EXPECT_EQ(Ask("POST", kEcho, kJsonEcho, "inference-header-content-length: -1\r\n").code, 400);
  EXPECT_EQ(Ask("POST", kEcho, kJsonEcho, "inference-header-content-length: 12x\r\n").code, 400);
}

}  // namespace
}  // namespace tandem::api::http::testing
