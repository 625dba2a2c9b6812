#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "api/grpc/testing/grpc_fixture.h"
#include "base/clock.h"
#include "base/strings.h"

namespace tandem::api::rpc::testing {
namespace {

using ::grpc::StatusCode;
using inference::InferTensorContents;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using ::testing::HasSubstr;

class InferTest : public GrpcTest {
 protected:
  InferTest() { Start(); }
};

std::string Text(const std::string& text) {
  auto length = static_cast<uint32_t>(text.size());
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

TEST_F(InferTest, EchoesRawContents) {
  std::string bytes = BytesOf<float>({1, 2, 3, 4});
  ModelInferRequest request = RawRequest("echo", "FP32", 4, bytes);
  request.set_id("seven");
  ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_EQ(response.model_name(), "echo");
  EXPECT_EQ(response.model_version(), "1");
  EXPECT_EQ(response.id(), "seven");
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_EQ(response.outputs(0).name(), "x");
  EXPECT_EQ(response.outputs(0).datatype(), "FP32");
  EXPECT_EQ(response.outputs(0).shape(0), 4);
  ASSERT_EQ(response.raw_output_contents_size(), 1);
  EXPECT_EQ(response.raw_output_contents(0), bytes);
  EXPECT_EQ(Recorded().done_ok, 1);
}

TEST_F(InferTest, EchoesContentsOfEveryType) {
  struct Case {
    const char* datatype;
    std::function<void(InferTensorContents*)> fill;
    std::string bytes;
  };
  const std::vector<Case> cases = {
      {"BOOL", [](auto* c) { c->add_bool_contents(true), c->add_bool_contents(false); }, BytesOf<uint8_t>({1, 0})},
      {"INT8", [](auto* c) { c->add_int_contents(-128), c->add_int_contents(127); }, BytesOf<int8_t>({-128, 127})},
      {"INT16", [](auto* c) { c->add_int_contents(-2), c->add_int_contents(300); }, BytesOf<int16_t>({-2, 300})},
      {"INT32", [](auto* c) { c->add_int_contents(-2), c->add_int_contents(1 << 30); },
       BytesOf<int32_t>({-2, 1 << 30})},
      {"INT64", [](auto* c) { c->add_int64_contents(-2), c->add_int64_contents(3); }, BytesOf<int64_t>({-2, 3})},
      {"UINT8", [](auto* c) { c->add_uint_contents(0), c->add_uint_contents(255); }, BytesOf<uint8_t>({0, 255})},
      {"UINT16", [](auto* c) { c->add_uint_contents(0), c->add_uint_contents(65535); }, BytesOf<uint16_t>({0, 65535})},
      {"UINT32", [](auto* c) { c->add_uint_contents(0), c->add_uint_contents(~0u); }, BytesOf<uint32_t>({0, ~0u})},
      {"UINT64", [](auto* c) { c->add_uint64_contents(0), c->add_uint64_contents(~0ull); },
       BytesOf<uint64_t>({0, ~0ull})},
      {"FP32", [](auto* c) { c->add_fp32_contents(0.5), c->add_fp32_contents(-1); }, BytesOf<float>({0.5, -1})},
      {"FP64", [](auto* c) { c->add_fp64_contents(0.1), c->add_fp64_contents(-1); }, BytesOf<double>({0.1, -1})},
      {"BYTES", [](auto* c) { c->add_bytes_contents("a"), c->add_bytes_contents(""); }, Text("a") + Text("")},
  };
  for (const Case& one : cases) {
    ModelInferRequest request;
    request.set_model_name("echo");
    auto* input = request.add_inputs();
    input->set_name("x");
    input->set_datatype(one.datatype);
    input->add_shape(2);
    one.fill(input->mutable_contents());
    ModelInferResponse response;
    ::grpc::Status status = Infer(request, &response);
    ASSERT_TRUE(status.ok()) << one.datatype << status.error_message();
    EXPECT_EQ(response.outputs(0).datatype(), one.datatype);
    EXPECT_EQ(response.raw_output_contents(0), one.bytes) << one.datatype;
  }
}

TEST_F(InferTest, TakesHalfTypesTextsAndTensorsWithoutElementsAsRawBytes) {
  const std::tuple<const char*, int, std::string> cases[] = {{"FP16", 2, "abcd"},
                                                             {"BF16", 2, "abcd"},
                                                             {"BYTES", 2, Text("\xff\x01") + Text("b")},
                                                             {"FP32", 0, ""},
                                                             {"BYTES", 0, ""}};
  for (const auto& [datatype, count, bytes] : cases) {
    ModelInferResponse response;
    ::grpc::Status status = Infer(RawRequest("echo", datatype, count, bytes), &response);
    ASSERT_TRUE(status.ok()) << datatype << status.error_message();
    EXPECT_EQ(response.raw_output_contents(0), bytes);
  }
}

TEST_F(InferTest, KeepsTensorsOfAnySizeWholeAndAligned) {
  for (int64_t size : {1, 100, 32767, 32768, 32769, 100'000, 5'000'000}) {
    std::string bytes(size, '\0');
    for (int64_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 256);
    ModelInferResponse response;
    ASSERT_TRUE(Infer(RawRequest("echo", "UINT8", size, bytes), &response).ok()) << size;
    EXPECT_TRUE(response.raw_output_contents(0) == bytes) << size;
  }
  EXPECT_FALSE(Recorded().unaligned);
}

TEST_F(InferTest, GivesWantedOutputsInTheirOrder) {
  ModelInferRequest request;
  request.set_model_name("pair");
  for (const char* name : {"x", "y"}) {
    auto* input = request.add_inputs();
    input->set_name(name);
    input->set_datatype(*name == 'x' ? "FP32" : "INT64");
    input->add_shape(1);
    request.add_raw_input_contents(*name == 'x' ? "abcd" : "12345678");
  }
  ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_EQ(response.raw_output_contents_size(), 2);
  request.add_outputs()->set_name("y");
  request.add_outputs()->set_name("x");
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_EQ(response.outputs(0).name(), "y");
  EXPECT_EQ(response.raw_output_contents(0), "12345678");
  EXPECT_EQ(response.raw_output_contents(1), "abcd");
}

TEST_F(InferTest, SendsClassesInsteadOfValues) {
  ModelInferRequest request = RawRequest("echo", "FP32", 3, BytesOf<float>({1, 3, 2}));
  auto* output = request.add_outputs();
  output->set_name("x");
  (*output->mutable_parameters())["classification"].set_int64_param(2);
  ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_EQ(response.outputs(0).datatype(), "BYTES");
  EXPECT_EQ(response.raw_output_contents(0), Text("3.000000:1") + Text("2.000000:2"));
}

TEST_F(InferTest, MarksTheFinalResponseWhereItIsAskedFor) {
  ModelInferRequest request = RawRequest("echo", "UINT8", 1, "a");
  ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_EQ(response.parameters_size(), 0);
  (*request.mutable_parameters())["triton_enable_empty_final_response"].set_bool_param(true);
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_TRUE(response.parameters().at("triton_final_response").bool_param());
}

TEST_F(InferTest, SpeaksGzipAndDeflate) {
  const std::string bytes(100'000, 'z');
  for (auto algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    ::grpc::ClientContext context;
    context.set_compression_algorithm(algorithm);
    ModelInferResponse response;
    ASSERT_TRUE(stub_->ModelInfer(&context, RawRequest("echo", "UINT8", 100'000, bytes), &response).ok());
    EXPECT_EQ(response.raw_output_contents(0), bytes);
  }
}

TEST_F(InferTest, PacksAnswersToPackedRequests) {
  ::grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  channel_ = ::grpc::CreateCustomChannel(server_->address(), ::grpc::InsecureChannelCredentials(), arguments);
  const std::string request = RawRequest("echo", "UINT8", 100'000, std::string(100'000, 'z')).SerializeAsString();
  std::string answer;
  ASSERT_TRUE(AskRaw("/inference.GRPCInferenceService/ModelInfer", request, &answer, GRPC_COMPRESS_GZIP).ok());
  EXPECT_LT(answer.size(), 1000u);
  EXPECT_EQ(answer.substr(0, 2), "\x1f\x8b");
  ASSERT_TRUE(AskRaw("/inference.GRPCInferenceService/ModelInfer", request, &answer).ok());
  EXPECT_GT(answer.size(), 100'000u);
}

TEST_F(InferTest, TakesTheEarlierOfDeadlineAndTimeout) {
  ModelInferRequest request = RawRequest("echo", "UINT8", 1, "a");
  ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_EQ(Recorded().last_deadline_ns, 0);
  constexpr int64_t kSecond = 1'000'000'000;
  auto ask = [&](int timeout_s, int deadline_s) {
    (*request.mutable_parameters())["timeout"].set_int64_param(timeout_s * 1'000'000);
    ::grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(deadline_s));
    EXPECT_TRUE(stub_->ModelInfer(&context, request, &response).ok());
    return Recorded().last_deadline_ns - Clock::Real()->MonotonicNanos();
  };
  int64_t left = ask(0, 100);
  EXPECT_GT(left, 90 * kSecond);
  EXPECT_LE(left, 101 * kSecond);
  EXPECT_LE(ask(50, 100), 50 * kSecond);
  EXPECT_LE(ask(200, 100), 101 * kSecond);
}

TEST_F(InferTest, RoutesByMetadataElseById) {
  auto ask = [this](std::initializer_list<std::pair<const char*, const char*>> metadata) {
    ::grpc::ClientContext context;
    for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
    ModelInferRequest request = RawRequest("later", "UINT8", 1, "a");
    request.set_id("the id");
    ModelInferResponse response;
    std::thread finisher([this] {
      Recorded().waiting.WaitFor(1);
      Recorded().waiting.FinishOldest();
    });
    EXPECT_TRUE(stub_->ModelInfer(&context, request, &response).ok());
    finisher.join();
    return Recorded().last_route_key();
  };
  EXPECT_EQ(ask({}), "the id");
  EXPECT_EQ(ask({{"x-request-id", "request"}}), "request");
  EXPECT_EQ(ask({{"x-request-id", "request"}, {"x-route-key", "key"}}), "key");
}

TEST_F(InferTest, RunsWhatWaitsOnItsOwnThreads) {
  for (int64_t delay_ns : {0, 30'000'000}) {
    Recorded().waiting.LetWorkersRun(WorkSource::kNever);
    std::thread let([&] {
      Recorded().waiting.WaitFor(1);
      Recorded().waiting.LetWorkersRun(Clock::Real()->MonotonicNanos() + delay_ns);
    });
    ModelInferResponse response;
    EXPECT_TRUE(Infer(RawRequest("later", "UINT8", 1, "a"), &response).ok());
    let.join();
  }
  EXPECT_EQ(Recorded().waiting.workers, settings_.io_threads);
}

TEST_F(InferTest, DropsWhatItsClientCancelled) {
  ::grpc::ClientContext context;
  std::thread canceller([&] {
    Recorded().waiting.WaitFor(1);
    context.TryCancel();
    WaitForCancelled();
    Recorded().waiting.LetWorkersRun(0);
  });
  ModelInferResponse response;
  EXPECT_EQ(stub_->ModelInfer(&context, RawRequest("later", "UINT8", 1, "a"), &response).error_code(),
            StatusCode::CANCELLED);
  canceller.join();
  while (Recorded().done_failed == 0) std::this_thread::yield();
  EXPECT_EQ(Recorded().cancelled, 1);
  EXPECT_TRUE(Infer(RawRequest("echo", "UINT8", 1, "a"), &response).ok());
}

TEST_F(InferTest, GivesErrorsTheirCodes) {
  ModelInferResponse response;
  auto code = [&](const char* model) { return Infer(RawRequest(model, "UINT8", 1, "a"), &response).error_code(); };
  EXPECT_EQ(code("broken"), StatusCode::INTERNAL);
  EXPECT_EQ(code("throws"), StatusCode::INTERNAL);
  EXPECT_EQ(code("loading"), StatusCode::UNAVAILABLE);
  EXPECT_EQ(code("crowded"), StatusCode::UNAVAILABLE);
  ::grpc::Status missing = Infer(RawRequest("nope", "UINT8", 1, "a"), &response);
  EXPECT_EQ(missing.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(missing.error_message(), "there is no model 'nope'; there are: echo");
}

TEST_F(InferTest, TellsWhenToTryAgain) {
  ::grpc::ClientContext context;
  ModelInferResponse response;
  EXPECT_EQ(stub_->ModelInfer(&context, RawRequest("crowded", "UINT8", 1, "a"), &response).error_code(),
            StatusCode::UNAVAILABLE);
  auto found = context.GetServerTrailingMetadata().find("retry-after");
  ASSERT_NE(found, context.GetServerTrailingMetadata().end());
  EXPECT_EQ(std::string(found->second.data(), found->second.size()), "3");
}

TEST_F(InferTest, CutsMessagesThatDoNotFitIntoATrailer) {
  ModelInferResponse response;
  ModelInferRequest request = RawRequest(StrCat("nope-", std::string(100'000, 'n')), "UINT8", 1, "a");
  ::grpc::Status status = Infer(request, &response);
  EXPECT_EQ(status.error_code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("there is no model 'nope-nnn"));
}

TEST_F(InferTest, UsesSharedMemoryForInputsAndOutputs) {
  const std::string key = StrCat("/tandem-grpc-test-", getpid());
  int fd = shm_open(key.c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(ftruncate(fd, 8192), 0);
  char* memory = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  close(fd);
  memcpy(memory, "abcd", 4);
  {
    ::grpc::ClientContext context;
    inference::SystemSharedMemoryRegisterRequest request;
    inference::SystemSharedMemoryRegisterResponse response;
    request.set_name("region");
    request.set_key(key);
    request.set_byte_size(8192);
    ::grpc::Status status = stub_->SystemSharedMemoryRegister(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  ModelInferRequest request = RawRequest("echo", "UINT8", 4, "");
  request.clear_raw_input_contents();
  auto& in = *request.mutable_inputs(0)->mutable_parameters();
  in["shared_memory_region"].set_string_param("region");
  in["shared_memory_byte_size"].set_int64_param(4);
  auto* output = request.add_outputs();
  output->set_name("x");
  auto& out = *output->mutable_parameters();
  out["shared_memory_region"].set_string_param("region");
  out["shared_memory_byte_size"].set_int64_param(4);
  out["shared_memory_offset"].set_int64_param(4096);
  ModelInferResponse response;
  ::grpc::Status status = Infer(request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.raw_output_contents(0), "");
  EXPECT_EQ(response.outputs(0).parameters().at("shared_memory_region").string_param(), "region");
  EXPECT_EQ(response.outputs(0).parameters().at("shared_memory_byte_size").int64_param(), 4);
  EXPECT_EQ(std::string(memory + 4096, 4), "abcd");
  out["shared_memory_byte_size"].set_int64_param(3);
  EXPECT_EQ(Infer(request, &response).error_code(), StatusCode::INVALID_ARGUMENT);
  munmap(memory, 8192);
  shm_unlink(key.c_str());
}

TEST_F(InferTest, ServesManyClientsAtOnce) {
  Recorded().waiting.LetWorkersRun(0);
  std::vector<std::thread> clients;
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([this, c] {
      auto stub = inference::GRPCInferenceService::NewStub(Connect());
      for (int i = 0; i < 100; ++i) {
        std::string bytes(1 + (c * 977 + i * 331) % 70'000, static_cast<char>('a' + c));
        ::grpc::ClientContext context;
        ModelInferResponse response;
        auto status = stub->ModelInfer(
            &context, RawRequest(i % 2 == 0 ? "echo" : "later", "UINT8", static_cast<int64_t>(bytes.size()), bytes),
            &response);
        ASSERT_TRUE(status.ok()) << status.error_message();
        ASSERT_TRUE(response.raw_output_contents(0) == bytes);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(Recorded().done_ok, 800);
}

}  // namespace
}  // namespace tandem::api::rpc::testing
