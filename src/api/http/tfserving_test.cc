// TensorFlow Serving's REST interface.
#include <gmock/gmock.h>

#include "api/http/testing/server_fixture.h"
#include "api/http/tfserving_decoder.h"
#include "api/http/tfserving_encoder.h"

namespace tandem::api::http::testing {
namespace {

using ::testing::HasSubstr;

class TfServingTest : public ServerTest {
 protected:
  void SetUp() override { Start(); }
  Answer Predict(std::string_view body, std::string_view path = "/v1/models/echo:predict") {
    return Ask("POST", path, body);
  }
};

TEST_F(TfServingTest, AnswersRowsWithRowsAndColumnsWithColumns) {
  Answer rows = Predict(R"({"instances":[[1,2.5,3,4],[5,6,7,8]]})");
  EXPECT_EQ(rows.code, 200);
  EXPECT_EQ(rows.headers["content-type"], "application/json");
  EXPECT_EQ(rows.body, R"({"predictions":[[1,2.5,3,4],[5,6,7,8]]})");
  EXPECT_EQ(Predict(R"({"inputs":[[1,2,3,4]],"signature_name":"serving_default"})").body, R"({"outputs":[[1,2,3,4]]})");
  EXPECT_EQ(Predict(R"({"inputs":{"x":[[1,2,3,4]]}})").body, R"({"outputs":[[1,2,3,4]]})");
  EXPECT_EQ(fakes_.inference.recorded.done_ok, 3);
  EXPECT_FALSE(fakes_.inference.recorded.unaligned);
}

TEST_F(TfServingTest, NamesInputsAndOutputsWhereThereAreSeveral) {
  EXPECT_EQ(Predict(R"({"instances":[{"x":1,"y":2},{"y":4,"x":3}]})", "/v1/models/pair:predict").body,
            R"({"predictions":[{"x":1,"y":2},{"x":3,"y":4}]})");
  EXPECT_EQ(Predict(R"({"inputs":{"y":[4,5],"x":[0.5,1]}})", "/v1/models/pair:predict").body,
            R"({"outputs":{"y":[4,5],"x":[0.5,1]}})");
  EXPECT_THAT(Predict(R"({"instances":[1,2]})", "/v1/models/pair:predict").body, HasSubstr("has 2 inputs (x, y)"));
  EXPECT_THAT(Predict(R"({"inputs":[1,2]})", "/v1/models/pair:predict").body, HasSubstr("has 2 inputs (x, y)"));
}

TEST_F(TfServingTest, TakesAVersionOrALabelInThePath) {
  constexpr char kBody[] = R"({"instances":[[1,2,3,4]]})";
  EXPECT_EQ(Predict(kBody, "/v1/models/echo/versions/1:predict").code, 200);
  EXPECT_EQ(Predict(kBody, "/v1/models/echo/labels/1:predict").code, 200);
  EXPECT_EQ(Predict(kBody, "/v1/models/echo/versions/9:predict").code, 404);
  EXPECT_THAT(Predict(kBody, "/v1/models/echo/labels/stable:predict").body, HasSubstr("has no version stable"));
  EXPECT_EQ(Predict(kBody, "/v1/models/%C3%A9t%c3%a9:predict").code, 200);
  EXPECT_EQ(Predict(kBody, "/v1/models/nope:predict").code, 404);
}

TEST_F(TfServingTest, ReadsAndWritesNumbersThatJsonHasNot) {
  EXPECT_EQ(Predict(R"({"instances":[[NaN, Infinity,-Infinity ,-1]]})").body,
            R"({"predictions":[[NaN,Infinity,-Infinity,-1]]})");
  EXPECT_EQ(Predict(R"({"instances":[{"x":[Inf,-Inf,0,1]}]})").body, R"({"predictions":[[Infinity,-Infinity,0,1]]})");
  EXPECT_EQ(Predict(R"({"instances":[[NaN,1,2,3]],"a \"NaN\\":"NaN"})").code, 200);
  EXPECT_THAT(Predict(R"({"instances":[[Nan,1,2,3]]})").body, HasSubstr("is not JSON"));
}

TEST_F(TfServingTest, RefusesOtherVerbsByName) {
  for (const char* path : {"/v1/models/echo", "/v1/models/echo/versions/1", "/v1/models/echo/labels/a"}) {
    Answer classify = Ask("POST", StrCat(path, ":classify"), "{}");
    EXPECT_EQ(classify.code, 501);
    EXPECT_THAT(classify.body, HasSubstr("':predict'"));
    EXPECT_EQ(Ask("POST", StrCat(path, ":regress"), "{}").code, 501);
    Answer unknown = Ask("POST", StrCat(path, ":train"), "{}");
    EXPECT_EQ(unknown.code, 404);
    EXPECT_THAT(unknown.body, HasSubstr("there is no verb ':train'; there is ':predict'"));
    EXPECT_THAT(Ask("POST", path, "{}").body, HasSubstr("needs a verb"));
  }
  EXPECT_EQ(Ask("POST", "/v1/models/:predict", "{}").code, 404);
  EXPECT_EQ(Ask("PUT", "/v1/models/echo:predict", "{}").code, 405);
}

TEST_F(TfServingTest, TellsTheStateOfVersionsAndWhetherTheModelIsReady) {
  EXPECT_EQ(Ask("GET", "/v1/models/echo").body,
            R"({"model_version_status":[{"version":"1","state":"AVAILABLE","status":{"error_code":"OK",)"
            R"("error_message":""}}],"name":"echo","ready":true})");
  EXPECT_EQ(Ask("GET", "/v1/models/echo/versions/1").code, 200);
  Answer broken = Ask("GET", "/v1/models/broken");
  EXPECT_THAT(broken.body,
              HasSubstr(R"("state":"END","status":{"error_code":"UNKNOWN","error_message":"no \"blob\"")"));
  EXPECT_THAT(broken.body, HasSubstr(R"("ready":false)"));
  EXPECT_EQ(Ask("GET", "/v1/models/nope").code, 404);
  EXPECT_EQ(Ask("GET", "/v1/models/echo/versions/2").code, 404);
  EXPECT_EQ(Ask("GET", "/v1/models/echo/labels/stable").code, 404);
  EXPECT_EQ(Ask("GET", "/").body, R"({"status":"alive"})");
}

TEST_F(TfServingTest, DescribesTheSignature) {
  EXPECT_EQ(Ask("GET", "/v1/models/echo/metadata").body,
            R"({"model_spec":{"name":"echo","signature_name":"","version":"1"},"metadata":{"signature_def":)"
            R"({"signature_def":{"serving_default":{"inputs":{"x":{"dtype":"DT_FLOAT","name":"x:0","tensor_shape":)"
            R"({"dim":[{"size":"-1","name":""},{"size":"4","name":""}],"unknown_rank":false}}},"outputs":{"x":{)"
            R"("dtype":"DT_FLOAT","name":"x:0","tensor_shape":{"dim":[{"size":"-1","name":""},{"size":"4","name":""}],)"
            R"("unknown_rank":false}}},"method_name":"tensorflow/serving/predict"}}}}})");
  EXPECT_EQ(Ask("GET", "/v1/models/echo/versions/1/metadata").code, 200);
  EXPECT_EQ(Ask("GET", "/v1/models/nope/metadata").code, 404);
}

TEST_F(TfServingTest, GivesTheModelsErrorsTheirCodes) {
  EXPECT_EQ(Predict(R"({"instances":[[1,2,3,4]]})", "/v1/models/crowded:predict").code, 503);
  EXPECT_EQ(Predict(R"({"instances":[[1,2,3,4]]})", "/v1/models/broken:predict").code, 500);
  EXPECT_EQ(fakes_.inference.recorded.done_failed, 1);
}

TEST_F(TfServingTest, RefusesBadRequestsByNameAndGoesOn) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "is not JSON"},
      {"[]", "the request is an array, must be an object"},
      {"{}", "neither 'instances' (rows) nor 'inputs'"},
      {R"({"instances":[1],"inputs":[1]})", "both 'instances' and 'inputs'"},
      {R"({"instances":{}})", "'instances' is an object, must be a list"},
      {R"({"instances":[]})", "'instances' is an empty list"},
      {R"({"instances":[[1]],"signature_name":"other"})", "has no signature 'other'; it has 'serving_default'"},
      {R"({"instances":[[1]],"signature_name":1})", "'signature_name' is a number"},
      {R"({"instances":[{"z":[1]}]})", "has no input 'z'"},
      {R"({"instances":[{"x":[1],"x":[1]}]})", "input 'x' is given twice"},
      {R"({"instances":[{"x":[1]},[1]]})", "entry 1 of 'instances' is an array, must be an object"},
      {R"({"instances":[{"x":[1]},{}]})", "entry 1 of 'instances' has no 'x'"},
      {R"({"instances":[{"x":[1]},{"x":[1],"x":[2]}]})", "entry 1 of 'instances' has 'x' twice"},
      {R"({"instances":[{"x":[1]},{"y":[1]}]})", "has 'y', which the first entry has not"},
      {R"({"instances":[[1,2],[1,2,3]]})", "input 'x': has a list with 3 entries where its first one has 2"},
      {R"({"instances":[[1,2],[1]]})", "has a list with 1 entries"},
      {R"({"instances":[[1,2],3]})", "holds 3 where its first value has a list"},
      {R"({"instances":[1,[2]]})", "holds an array, which is no DT_FLOAT"},
      {R"({"instances":[["1"]]})", "holds a text, which is no DT_FLOAT"},
      {R"({"instances":[[null]]})", "holds null"},
      {R"({"instances":[[1e39]]})", "holds 1e+39, which is no DT_FLOAT"},
      {R"({"instances":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]})", "more than 16 dimensions"},
      {R"({"inputs":{"x":[1],"y":[1]}})", "has no input 'y'"},
  };
  TestClient client = Connect();
  for (const auto& [body, message] : cases) {
    Answer answer = client.Ask("POST", "/v1/models/echo:predict", body);
    EXPECT_EQ(answer.code, 400) << body << answer.body;
    EXPECT_THAT(answer.body, HasSubstr(message)) << body;
  }
  EXPECT_EQ(client.Ask("POST", "/v1/models/echo:predict", R"({"instances":[[1,2,3,4]]})").code, 200);
}

TEST_F(TfServingTest, RefusesListsThatPretendToHoldMoreThanWasSent) {
  for (auto [depth, message] : {std::pair(3, "its lists have not all as many entries"), {8, "too many elements"}}) {
    std::string lists = "1";
    for (int i = 0; i < depth; ++i) {
      lists = StrCat("[", lists);
      for (int entry = 0; entry < 1000; ++entry) lists += ",1";
      lists += "]";
    }
    Answer answer = Predict(StrCat(R"({"instances":)", lists, "}"));
    EXPECT_EQ(answer.code, 400);
    EXPECT_THAT(answer.body, HasSubstr(message));
  }
}

// Without a server: a model of any signature that gives its inputs back.
class TfCodecTest : public ::testing::Test, public InferRequest::Owner {
 protected:
  void Finished(InferRequest*) override {}
  std::string Predict(std::vector<TensorSignature> signature, std::string body) {
    EchoSession session("echo", &signature, &recorded_);
    const size_t size = body.size();
    body.resize(size + simdjson::SIMDJSON_PADDING);
    absl::Status status = decoder_.Decode(std::string_view(body).substr(0, size), session, &call_);
    if (!status.ok()) return std::string(MessageOf(status));
    call_.request.owner = this;
    session.Start(&call_.request);
    EXPECT_TRUE(call_.request.status.ok());
    EXPECT_TRUE(v2::FinishOutputs(session, &call_).ok());
    InferAnswer answer;
    status = EncodeTfServing(call_, decoder_.in_rows(), &answer);
    return status.ok() ? answer.json : std::string(MessageOf(status));
  }

  Recorded recorded_;
  TfServingDecoder decoder_{64};
  v2::InferCall call_;
};

TEST_F(TfCodecTest, EchoesEveryTypeThatJsonCanHold) {
  const std::pair<DType, const char*> cases[] = {
      {DType::kBool, "[true,false]"},
      {DType::kUint8, "[0,255]"},
      {DType::kInt8, "[-128,127]"},
      {DType::kUint16, "[0,65535]"},
      {DType::kInt16, "[-32768,32767]"},
      {DType::kUint32, "[0,4294967295]"},
      {DType::kInt32, "[-2147483648,2147483647]"},
      {DType::kUint64, "[0,18446744073709551615]"},
      {DType::kInt64, "[-9223372036854775808,9223372036854775807]"},
      {DType::kFloat32, "[-0.1,3.4028235e+38]"},
      {DType::kFloat64, "[0.1,1.7976931348623157e+308]"},
      {DType::kString, R"(["a",""])"},
  };
  for (const auto& [dtype, values] : cases) {
    EXPECT_EQ(Predict({{"x", dtype, {-1}}}, StrCat(R"({"instances":)", values, "}")),
              StrCat(R"({"predictions":)", values, "}"));
    EXPECT_EQ(Predict({{"x", dtype, {-1, 2}}}, StrCat(R"({"inputs":[)", values, "]}")),
              StrCat(R"({"outputs":[)", values, "]}"));
  }
  EXPECT_EQ(Predict({{"x", DType::kUint8, {-1}}}, R"({"instances":[256]})"),
            "input 'x': holds 256, which is no DT_UINT8");
  EXPECT_THAT(Predict({{"x", DType::kFloat16, {-1}}}, R"({"instances":[1]})"), HasSubstr("DT_HALF, which is not read"));
  EXPECT_EQ(Predict({{"x", DType::kInt64, {-1}}}, R"({"instances":[NaN]})"),
            "input 'x': holds a text, which is no DT_INT64");
}

TEST_F(TfCodecTest, CarriesBytesAsBase64) {
  const std::vector<TensorSignature> text = {{"x", DType::kString, {-1}}}, bytes = {{"x_bytes", DType::kString, {-1}}};
  EXPECT_EQ(Predict(text, R"({"instances":[{"b64":"YWI="},"c",{"b64":"/w=="}]})"),
            R"({"predictions":["ab","c",{"b64":"/w=="}]})");
  EXPECT_EQ(Predict(bytes, R"({"inputs":{"x_bytes":["ab",{"b64":""}]}})"),
            R"({"outputs":[{"b64":"YWI="},{"b64":""}]})");
  EXPECT_THAT(Predict(text, R"({"instances":[{"b64":"*"}]})"), HasSubstr("no base64"));
  EXPECT_THAT(Predict(text, R"({"instances":["a",{"b":"*"}]})"), HasSubstr("must be a text or"));
  EXPECT_THAT(Predict(text, R"({"instances":["a",7]})"), HasSubstr("holds 7"));
}

TEST_F(TfCodecTest, KeepsAllDimensionsAndScalarsAndEmptyLists) {
  EXPECT_EQ(Predict({{"x", DType::kInt32, {-1, 2, 2}}}, R"({"instances":[[[1,2],[3,4]],[[5,6],[7,8]]]})"),
            R"({"predictions":[[[1,2],[3,4]],[[5,6],[7,8]]]})");
  EXPECT_EQ(Predict({{"x", DType::kString, {-1, 1, 2}}}, R"({"inputs":[[["a","b"]]]})"),
            R"({"outputs":[[["a","b"]]]})");
  EXPECT_EQ(Predict({{"x", DType::kInt32, {}}}, R"({"inputs":5})"), R"({"outputs":5})");
  EXPECT_EQ(Predict({{"x", DType::kInt32, {-1, 4}}}, R"({"inputs":[]})"), R"({"outputs":[]})");
  EXPECT_EQ(call_.request.inputs[0].shape, (Shape{0, 4}));
  EXPECT_EQ(Predict({{"x", DType::kInt32, {-1, -1}}}, R"({"instances":[[],[]]})"), R"({"predictions":[[],[]]})");
}

TEST(TfEncoderTest, RefusesRowsOfOutputsThatDoNotHaveEquallyMany) {
  Tensor two, one, scalar;
  two.name = "two", two.dtype = DType::kInt32, two.shape = {2}, two.buffer.Resize(8);
  one.name = "one", one.dtype = DType::kInt32, one.shape = {1}, one.buffer.Resize(4);
  scalar.name = "scalar", scalar.dtype = DType::kInt32, scalar.buffer.Resize(4);
  *one.As<int32_t>() = 7;
  *scalar.As<int32_t>() = 8;
  v2::InferCall call;
  InferAnswer answer;
  for (const auto& answers : {std::vector<const Tensor*>{&two, &one}, {&two, &scalar}, {&scalar}}) {
    call.answers = answers;
    absl::Status status = EncodeTfServing(call, true, &answer);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(status), HasSubstr("send the request in columns"));
  }
  call.answers = {&one, &scalar};
  ASSERT_TRUE(EncodeTfServing(call, false, &answer).ok());
  EXPECT_EQ(answer.json, R"({"outputs":{"one":[7],"scalar":8}})");
}

}  // namespace
}  // namespace tandem::api::http::testing
