#include "api/grpc/tfserving.h"

#include <gmock/gmock.h>

#include "api/grpc/testing/grpc_fixture.h"
#include "base/strings.h"
#include "google/protobuf/wrappers.pb.h"

namespace tandem::api::rpc::testing {
namespace {

using ::grpc::StatusCode;
using tensorflow::TensorProto;
using tensorflow::serving::GetModelMetadataRequest;
using tensorflow::serving::GetModelMetadataResponse;
using tensorflow::serving::GetModelStatusRequest;
using tensorflow::serving::GetModelStatusResponse;
using tensorflow::serving::ModelVersionStatus;
using tensorflow::serving::PredictRequest;
using tensorflow::serving::PredictResponse;
using ::testing::HasSubstr;

class TfServingTest : public GrpcTest {
 protected:
  TfServingTest() { Start(TfServingMethods()); }

  template <typename Response>
  ::grpc::Status Call(std::string_view method, const google::protobuf::Message& request, Response* response) {
    std::string answer;
    ::grpc::Status status = AskRaw(StrCat("/tensorflow.serving.", method), request.SerializeAsString(), &answer);
    EXPECT_TRUE(response->ParseFromString(answer));
    return status;
  }
  ::grpc::Status Predict(const PredictRequest& request, PredictResponse* response) {
    return Call("PredictionService/Predict", request, response);
  }
};

// An input "x" of the model, without values.
PredictRequest For(const std::string& model, tensorflow::DataType dtype, std::initializer_list<int64_t> shape) {
  PredictRequest request;
  request.mutable_model_spec()->set_name(model);
  TensorProto& tensor = (*request.mutable_inputs())["x"];
  tensor.set_dtype(dtype);
  for (int64_t dim : shape) tensor.mutable_tensor_shape()->add_dim()->set_size(dim);
  return request;
}
TensorProto& InputOf(PredictRequest* request) { return (*request->mutable_inputs())["x"]; }

TEST_F(TfServingTest, EchoesTensorContent) {
  PredictRequest request = For("echo", tensorflow::DT_FLOAT, {1, 4});
  InputOf(&request).set_tensor_content(BytesOf<float>({1, 2, 3, 4.5}));
  PredictResponse response;
  ASSERT_TRUE(Predict(request, &response).ok());
  EXPECT_EQ(response.model_spec().name(), "echo");
  EXPECT_EQ(response.model_spec().version().value(), 1);
  EXPECT_EQ(response.model_spec().signature_name(), "serving_default");
  const TensorProto& output = response.outputs().at("x");
  EXPECT_EQ(output.dtype(), tensorflow::DT_FLOAT);
  ASSERT_EQ(output.tensor_shape().dim_size(), 2);
  EXPECT_EQ(output.tensor_shape().dim(1).size(), 4);
  EXPECT_THAT(output.float_val(), ::testing::ElementsAre(1, 2, 3, 4.5));
  EXPECT_EQ(Recorded().done_ok, 1);
  EXPECT_FALSE(Recorded().unaligned);
}

TEST_F(TfServingTest, EchoesListsOfEveryType) {
  struct Case {
    tensorflow::DataType dtype;
    std::function<void(TensorProto*)> fill;
  };
  const Case cases[] = {
      {tensorflow::DT_FLOAT, [](auto* t) { t->add_float_val(0.5), t->add_float_val(-1); }},
      {tensorflow::DT_DOUBLE, [](auto* t) { t->add_double_val(0.1), t->add_double_val(-1); }},
      {tensorflow::DT_INT8, [](auto* t) { t->add_int_val(-128), t->add_int_val(127); }},
      {tensorflow::DT_INT16, [](auto* t) { t->add_int_val(-32768), t->add_int_val(300); }},
      {tensorflow::DT_INT32, [](auto* t) { t->add_int_val(-2), t->add_int_val(1 << 30); }},
      {tensorflow::DT_UINT8, [](auto* t) { t->add_int_val(0), t->add_int_val(255); }},
      {tensorflow::DT_UINT16, [](auto* t) { t->add_int_val(0), t->add_int_val(65535); }},
      {tensorflow::DT_INT64, [](auto* t) { t->add_int64_val(-2), t->add_int64_val(int64_t{1} << 60); }},
      {tensorflow::DT_UINT32, [](auto* t) { t->add_uint32_val(0), t->add_uint32_val(~0u); }},
      {tensorflow::DT_UINT64, [](auto* t) { t->add_uint64_val(0), t->add_uint64_val(~0ull); }},
      {tensorflow::DT_BOOL, [](auto* t) { t->add_bool_val(true), t->add_bool_val(false); }},
      {tensorflow::DT_HALF, [](auto* t) { t->add_half_val(0x3c00), t->add_half_val(0xffff); }},
      {tensorflow::DT_BFLOAT16, [](auto* t) { t->add_half_val(0x3f80), t->add_half_val(0); }},
      {tensorflow::DT_STRING, [](auto* t) { t->add_string_val("a\xff"), t->add_string_val(""); }},
  };
  for (const Case& one : cases) {
    PredictRequest request = For("echo", one.dtype, {2});
    one.fill(&InputOf(&request));
    PredictResponse response;
    ::grpc::Status status = Predict(request, &response);
    ASSERT_TRUE(status.ok()) << one.dtype << status.error_message();
    EXPECT_EQ(response.outputs().at("x").SerializeAsString(), InputOf(&request).SerializeAsString()) << one.dtype;
  }
}

TEST_F(TfServingTest, RepeatsTheLastElementOfAShortList) {
  PredictRequest request = For("echo", tensorflow::DT_FLOAT, {3});
  InputOf(&request).add_float_val(1);
  InputOf(&request).add_float_val(7);
  PredictResponse response;
  ASSERT_TRUE(Predict(request, &response).ok());
  EXPECT_THAT(response.outputs().at("x").float_val(), ::testing::ElementsAre(1, 7, 7));
  request = For("echo", tensorflow::DT_STRING, {3});
  InputOf(&request).add_string_val("ab");
  ASSERT_TRUE(Predict(request, &response).ok());
  EXPECT_THAT(response.outputs().at("x").string_val(), ::testing::ElementsAre("ab", "ab", "ab"));
}

TEST_F(TfServingTest, TakesScalarsAndTensorsWithoutElements) {
  PredictRequest request = For("echo", tensorflow::DT_INT64, {});
  InputOf(&request).add_int64_val(5);
  PredictResponse response;
  ASSERT_TRUE(Predict(request, &response).ok());
  EXPECT_EQ(response.outputs().at("x").tensor_shape().dim_size(), 0);
  EXPECT_THAT(response.outputs().at("x").int64_val(), ::testing::ElementsAre(5));
  for (auto dtype : {tensorflow::DT_FLOAT, tensorflow::DT_STRING}) {
    ASSERT_TRUE(Predict(For("echo", dtype, {0, 4}), &response).ok());
    EXPECT_EQ(response.outputs().at("x").tensor_shape().dim(0).size(), 0);
  }
}

TEST_F(TfServingTest, GivesTheOutputsThatTheFilterNames) {
  PredictRequest request = For("pair", tensorflow::DT_FLOAT, {1});
  InputOf(&request).add_float_val(0.5);
  TensorProto& y = (*request.mutable_inputs())["y"];
  y.set_dtype(tensorflow::DT_INT64);
  y.mutable_tensor_shape()->add_dim()->set_size(1);
  y.add_int64_val(3);
  PredictResponse response;
  ASSERT_TRUE(Predict(request, &response).ok());
  EXPECT_EQ(response.outputs_size(), 2);
  request.add_output_filter("y");
  ASSERT_TRUE(Predict(request, &response).ok());
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_THAT(response.outputs().at("y").int64_val(), ::testing::ElementsAre(3));
}

TEST_F(TfServingTest, FindsTheVersionByNumberAndByLabel) {
  PredictRequest request = For("echo", tensorflow::DT_FLOAT, {0});
  PredictResponse response;
  request.mutable_model_spec()->mutable_version()->set_value(1);
  EXPECT_TRUE(Predict(request, &response).ok());
  request.mutable_model_spec()->mutable_version()->set_value(2);
  EXPECT_EQ(Predict(request, &response).error_code(), StatusCode::NOT_FOUND);
  request.mutable_model_spec()->set_version_label("stable");
  ::grpc::Status status = Predict(request, &response);
  EXPECT_EQ(status.error_code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("no version stable"));
}

TEST_F(TfServingTest, RefusesBadRequestsByNameAndGoesOn) {
  struct Case {
    std::function<void(PredictRequest*)> spoil;
    const char* message;
  };
  const Case cases[] = {
      {[](auto* r) { r->clear_model_spec(); }, "no 'model_spec.name'"},
      {[](auto* r) { r->mutable_model_spec()->set_signature_name("other"); }, "has no signature 'other'"},
      {[](auto* r) { InputOf(r).clear_dtype(); }, "input 'x': its dtype 0 is not supported"},
      {[](auto* r) { InputOf(r).set_dtype(static_cast<tensorflow::DataType>(8)); }, "its dtype 8 is not supported"},
      {[](auto* r) { InputOf(r).mutable_tensor_shape()->set_unknown_rank(true); }, "tensor_shape is unknown"},
      {[](auto* r) { InputOf(r).mutable_tensor_shape()->mutable_dim(0)->set_size(-1); }, "negative dimension -1"},
      {[](auto* r) {
         for (int i = 0; i < 16; ++i) InputOf(r).mutable_tensor_shape()->add_dim()->set_size(1);
       },
       "more than 16 dimensions"},
      {[](auto* r) {
         for (int i = 0; i < 3; ++i) InputOf(r).mutable_tensor_shape()->add_dim()->set_size(int64_t{1} << 40);
       },
       "elements"},
      {[](auto* r) { InputOf(r).clear_int_val(); }, "'int_val' has 0 elements, but tensor_shape [2] has 2"},
      {[](auto* r) { InputOf(r).add_int_val(3), InputOf(r).add_int_val(3); }, "'int_val' has 3 elements"},
      {[](auto* r) { InputOf(r).mutable_tensor_shape()->mutable_dim(0)->set_size(int64_t{1} << 30); }, "send all"},
      {[](auto* r) { InputOf(r).set_int_val(0, 256); }, "element 0 of 'int_val' is 256, which is no UINT8"},
      {[](auto* r) { InputOf(r).set_int_val(0, -1); }, "is -1, which is no UINT8"},
      {[](auto* r) { InputOf(r).set_dtype(tensorflow::DT_FLOAT); }, "'float_val' has 0 elements"},
      {[](auto* r) { InputOf(r).set_tensor_content("abc"); }, "input 'x'"},
      {[](auto* r) { InputOf(r).set_dtype(tensorflow::DT_STRING), InputOf(r).set_tensor_content("abc"); },
       "texts are given in 'string_val'"},
      {[](auto* r) { (*r->mutable_inputs())["y"] = InputOf(r); }, "has 1 inputs"},
      {[](auto* r) { r->add_output_filter("z"); }, "has no output 'z'"},
      {[](auto* r) { r->add_output_filter("x"), r->add_output_filter("x"); }, "listed twice"},
  };
  PredictRequest good = For("echo", tensorflow::DT_UINT8, {2});
  InputOf(&good).add_int_val(1);
  for (const Case& bad : cases) {
    PredictRequest request = good;
    bad.spoil(&request);
    PredictResponse response;
    ::grpc::Status status = Predict(request, &response);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << bad.message;
    EXPECT_THAT(status.error_message(), HasSubstr(bad.message));
    EXPECT_TRUE(Predict(good, &response).ok());
  }
  EXPECT_EQ(AskRaw("/tensorflow.serving.PredictionService/Predict", "\xff\xff").error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(TfServingTest, DoesNotFillATextTensorWithoutBound) {
  PredictRequest request = For("echo", tensorflow::DT_STRING, {int64_t{1} << 40});
  InputOf(&request).add_string_val("");
  PredictResponse response;
  EXPECT_EQ(Predict(request, &response).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(TfServingTest, DescribesTheSignature) {
  GetModelMetadataRequest request;
  request.mutable_model_spec()->set_name("echo");
  GetModelMetadataResponse response;
  EXPECT_THAT(Call("PredictionService/GetModelMetadata", request, &response).error_message(),
              HasSubstr("'metadata_field' is empty"));
  request.add_metadata_field("signature_def");
  ASSERT_TRUE(Call("PredictionService/GetModelMetadata", request, &response).ok());
  EXPECT_EQ(response.model_spec().version().value(), 1);
  tensorflow::serving::SignatureDefMap map;
  ASSERT_TRUE(response.metadata().at("signature_def").UnpackTo(&map));
  const tensorflow::SignatureDef& signature = map.signature_def().at("serving_default");
  EXPECT_EQ(signature.method_name(), "tensorflow/serving/predict");
  EXPECT_EQ(signature.inputs().at("x").dtype(), tensorflow::DT_FLOAT);
  EXPECT_EQ(signature.inputs().at("x").tensor_shape().dim(0).size(), -1);
  EXPECT_EQ(signature.outputs().at("x").name(), "x:0");
  request.add_metadata_field("other");
  EXPECT_THAT(Call("PredictionService/GetModelMetadata", request, &response).error_message(),
              HasSubstr("metadata field 'other' is unknown"));
}

TEST_F(TfServingTest, TellsTheStateOfVersions) {
  GetModelStatusRequest request;
  request.mutable_model_spec()->set_name("echo");
  GetModelStatusResponse response;
  ASSERT_TRUE(Call("ModelService/GetModelStatus", request, &response).ok());
  ASSERT_EQ(response.model_version_status_size(), 1);
  EXPECT_EQ(response.model_version_status(0).version(), 1);
  EXPECT_EQ(response.model_version_status(0).state(), ModelVersionStatus::AVAILABLE);
  EXPECT_EQ(response.model_version_status(0).status().error_code(), 0);
  request.mutable_model_spec()->set_version_label("stable");
  EXPECT_EQ(Call("ModelService/GetModelStatus", request, &response).error_code(), StatusCode::NOT_FOUND);
  request.mutable_model_spec()->mutable_version()->set_value(3);
  EXPECT_EQ(Call("ModelService/GetModelStatus", request, &response).error_code(), StatusCode::NOT_FOUND);
  request.mutable_model_spec()->set_name("broken");
  request.mutable_model_spec()->clear_version();
  ASSERT_TRUE(Call("ModelService/GetModelStatus", request, &response).ok());
  EXPECT_EQ(response.model_version_status(0).state(), ModelVersionStatus::END);
  EXPECT_EQ(response.model_version_status(0).status().error_code(), 2);
  EXPECT_EQ(response.model_version_status(0).status().error_message(), "no \"blob\"");
}

}  // namespace
}  // namespace tandem::api::rpc::testing
