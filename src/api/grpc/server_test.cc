#include "api/grpc/server.h"

#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "api/grpc/door.h"
#include "api/grpc/testing/grpc_fixture.h"
#include "base/strings.h"
#include "reflection.pb.h"

namespace tandem::api::rpc::testing {
namespace {

using ::grpc::StatusCode;
using ::grpc::health::v1::Health;
using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;
using ::grpc::reflection::v1::ServerReflectionRequest;
using ::grpc::reflection::v1::ServerReflectionResponse;
using ::testing::Contains;
using ::testing::HasSubstr;

class VerbsTest : public GrpcTest {
 protected:
  VerbsTest() { Start(); }
  template <typename Request, typename Response, typename Method>
  ::grpc::Status Ask(Method method, const Request& request, Response* response) {
    ::grpc::ClientContext context;
    return (stub_.get()->*method)(&context, request, response);
  }
};

#define ASK(name, request, response) Ask(&inference::GRPCInferenceService::Stub::name, request, response)

TEST_F(VerbsTest, AnswerAboutTheServerAndItsModels) {
  inference::ServerLiveResponse live;
  EXPECT_TRUE(ASK(ServerLive, inference::ServerLiveRequest(), &live).ok());
  EXPECT_TRUE(live.live());
  inference::ServerReadyResponse ready;
  fakes_.inference.ready = false;
  EXPECT_TRUE(ASK(ServerReady, inference::ServerReadyRequest(), &ready).ok());
  EXPECT_FALSE(ready.ready());
  inference::ServerMetadataResponse server;
  EXPECT_TRUE(ASK(ServerMetadata, inference::ServerMetadataRequest(), &server).ok());
  EXPECT_EQ(server.name(), "tandem");
  EXPECT_THAT(server.extensions(), Contains("system_shared_memory"));

  inference::ModelReadyRequest model;
  inference::ModelReadyResponse model_ready;
  model.set_name("echo");
  EXPECT_TRUE(ASK(ModelReady, model, &model_ready).ok());
  EXPECT_TRUE(model_ready.ready());
  for (const char* name : {"loading", "nope"}) {
    model.set_name(name);
    EXPECT_TRUE(ASK(ModelReady, model, &model_ready).ok());
    EXPECT_FALSE(model_ready.ready());
  }
}

TEST_F(VerbsTest, DescribeAModel) {
  inference::ModelMetadataRequest request;
  request.set_name("pair");
  inference::ModelMetadataResponse metadata;
  ASSERT_TRUE(ASK(ModelMetadata, request, &metadata).ok());
  EXPECT_EQ(metadata.name(), "pair");
  EXPECT_EQ(metadata.versions(0), "1");
  EXPECT_EQ(metadata.platform(), "echo");
  EXPECT_EQ(metadata.inputs(1).name(), "y");
  EXPECT_EQ(metadata.inputs(1).datatype(), "INT64");
  EXPECT_EQ(metadata.outputs(0).shape(0), -1);

  inference::ModelConfigRequest config_request;
  config_request.set_name("pair");
  inference::ModelConfigResponse config;
  ASSERT_TRUE(ASK(ModelConfig, config_request, &config).ok());
  EXPECT_EQ(config.config().name(), "pair");
  EXPECT_EQ(config.config().max_batch_size(), 0);
  EXPECT_EQ(config.config().input(1).data_type(), inference::TYPE_INT64);
  EXPECT_EQ(config.config().output(0).dims(0), -1);

  inference::ModelStatisticsResponse statistics;
  ASSERT_TRUE(ASK(ModelStatistics, inference::ModelStatisticsRequest(), &statistics).ok());
  EXPECT_EQ(statistics.model_stats(0).name(), "echo");
  EXPECT_EQ(statistics.model_stats(0).inference_stats().queue().count(), 7u);
  inference::ModelStatisticsRequest missing;
  missing.set_name("missing");
  EXPECT_EQ(ASK(ModelStatistics, missing, &statistics).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(VerbsTest, LoadAndUnload) {
  inference::RepositoryIndexRequest index_request;
  inference::RepositoryIndexResponse index;
  ASSERT_TRUE(ASK(RepositoryIndex, index_request, &index).ok());
  EXPECT_EQ(index.models_size(), 2);
  EXPECT_EQ(index.models(1).state(), "UNAVAILABLE");
  index_request.set_ready(true);
  ASSERT_TRUE(ASK(RepositoryIndex, index_request, &index).ok());
  EXPECT_EQ(index.models_size(), 1);

  inference::RepositoryModelLoadRequest load;
  inference::RepositoryModelLoadResponse loaded;
  load.set_model_name("echo");
  ASSERT_TRUE(ASK(RepositoryModelLoad, load, &loaded).ok());
  EXPECT_TRUE(fakes_.models.enabled);
  (*load.mutable_parameters())["confg"].set_string_param("{}");
  EXPECT_EQ(ASK(RepositoryModelLoad, load, &loaded).error_code(), StatusCode::INVALID_ARGUMENT);
  inference::RepositoryModelUnloadRequest unload;
  inference::RepositoryModelUnloadResponse unloaded;
  unload.set_model_name("echo");
  (*unload.mutable_parameters())["unload_dependents"].set_bool_param(false);
  ASSERT_TRUE(ASK(RepositoryModelUnload, unload, &unloaded).ok());
  EXPECT_FALSE(fakes_.models.enabled);
}

TEST_F(VerbsTest, SayWhatIsNotThere) {
  inference::CudaSharedMemoryStatusResponse status;
  EXPECT_TRUE(ASK(CudaSharedMemoryStatus, inference::CudaSharedMemoryStatusRequest(), &status).ok());
  inference::CudaSharedMemoryUnregisterResponse unregistered;
  EXPECT_TRUE(ASK(CudaSharedMemoryUnregister, inference::CudaSharedMemoryUnregisterRequest(), &unregistered).ok());
  inference::CudaSharedMemoryRegisterResponse registered;
  EXPECT_EQ(ASK(CudaSharedMemoryRegister, inference::CudaSharedMemoryRegisterRequest(), &registered).error_code(),
            StatusCode::UNIMPLEMENTED);
  inference::TraceSettingResponse trace;
  EXPECT_EQ(ASK(TraceSetting, inference::TraceSettingRequest(), &trace).error_code(), StatusCode::UNIMPLEMENTED);
  inference::SystemSharedMemoryStatusRequest region;
  inference::SystemSharedMemoryStatusResponse regions;
  EXPECT_TRUE(ASK(SystemSharedMemoryStatus, region, &regions).ok());
  EXPECT_EQ(regions.regions_size(), 0);
  region.set_name("none");
  EXPECT_EQ(ASK(SystemSharedMemoryStatus, region, &regions).error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(AskRaw("/inference.GRPCInferenceService/Nothing", "").error_code(), StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(AskRaw("/inference.GRPCInferenceService/ModelReady", "\xff").error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(VerbsTest, ReadAndSetTheLog) {
  inference::LogSettingsRequest request;
  inference::LogSettingsResponse response;
  ASSERT_TRUE(ASK(LogSettings, request, &response).ok());
  EXPECT_TRUE(response.settings().at("log_error").bool_param());
  (*request.mutable_settings())["log_verbose_level"].set_uint32_param(1);
  ASSERT_TRUE(ASK(LogSettings, request, &response).ok());
  EXPECT_EQ(response.settings().at("log_verbose_level").uint32_param(), 1u);
  (*request.mutable_settings())["log_nonsense"].set_bool_param(true);
  EXPECT_EQ(ASK(LogSettings, request, &response).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(VerbsTest, AnswerWhileInferenceWaits) {
  std::thread client([this] {
    inference::ModelInferResponse response;
    EXPECT_TRUE(Infer(RawRequest("later", "UINT8", 1, "a"), &response).ok());
  });
  Recorded().waiting.WaitFor(1);
  inference::ServerLiveResponse live;
  EXPECT_TRUE(ASK(ServerLive, inference::ServerLiveRequest(), &live).ok());
  Recorded().waiting.LetWorkersRun(0);
  client.join();
}

TEST_F(GrpcTest, ChecksHealthOfKnownServices) {
  Start();
  auto health = Health::NewStub(channel_);
  auto ask = [&](const std::string& service, HealthCheckResponse* response) {
    ::grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    return health->Check(&context, request, response);
  };
  HealthCheckResponse response;
  for (const char* service : {"", "inference.GRPCInferenceService"}) {
    fakes_.inference.ready = true;
    ASSERT_TRUE(ask(service, &response).ok());
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
    fakes_.inference.ready = false;
    ASSERT_TRUE(ask(service, &response).ok());
    EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  }
  EXPECT_EQ(ask("nonsense", &response).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(GrpcTest, TellsWatchersOfEachChange) {
  Start();
  auto health = Health::NewStub(channel_);
  ::grpc::ClientContext context;
  auto stream = health->Watch(&context, HealthCheckRequest());
  HealthCheckResponse response;
  for (bool ready : {true, false, true}) {
    fakes_.inference.ready = ready;
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.status(), ready ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING);
  }
  ::grpc::ClientContext unknown_context;
  HealthCheckRequest unknown;
  unknown.set_service("nonsense");
  auto unknown_stream = health->Watch(&unknown_context, unknown);
  ASSERT_TRUE(unknown_stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  unknown_context.TryCancel();
  EXPECT_EQ(unknown_stream->Finish().error_code(), StatusCode::CANCELLED);
  // The first one still watches: the server ends it.
  server_->Stop(30);
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(GrpcTest, DescribesItselfToTools) {
  Start();
  for (const char* version : {"v1", "v1alpha"}) {
    ::grpc::ClientContext context;
    const std::string path = StrCat("/grpc.reflection.", version, ".ServerReflection/ServerReflectionInfo");
    ::grpc::internal::RpcMethod info(path.c_str(), ::grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
    std::unique_ptr<::grpc::ClientReaderWriter<ServerReflectionRequest, ServerReflectionResponse>> stream(
        ::grpc::internal::ClientReaderWriterFactory<ServerReflectionRequest, ServerReflectionResponse>::Create(
            channel_.get(), info, &context));
    auto ask = [&](auto set) {
      ServerReflectionRequest request;
      set(&request);
      EXPECT_TRUE(stream->Write(request));
      ServerReflectionResponse response;
      EXPECT_TRUE(stream->Read(&response));
      return response;
    };
    std::vector<std::string> names;
    ServerReflectionResponse list = ask([](auto* r) { r->set_list_services("*"); });
    for (const auto& service : list.list_services_response().service()) names.push_back(service.name());
    EXPECT_THAT(names, Contains("inference.GRPCInferenceService"));
    EXPECT_THAT(names, Contains("grpc.health.v1.Health"));
    ServerReflectionResponse files =
        ask([](auto* r) { r->set_file_containing_symbol("inference.GRPCInferenceService.ModelInfer"); });
    ASSERT_EQ(files.file_descriptor_response().file_descriptor_proto_size(), 2);
    google::protobuf::FileDescriptorProto file;
    ASSERT_TRUE(file.ParseFromString(files.file_descriptor_response().file_descriptor_proto(0)));
    EXPECT_EQ(file.package(), "inference");
    EXPECT_EQ(ask([](auto* r) { r->set_file_by_filename("health.proto"); })
                  .file_descriptor_response()
                  .file_descriptor_proto_size(),
              1);
    EXPECT_EQ(ask([](auto* r) { r->set_file_by_filename("nonsense"); }).error_response().error_code(), 5);
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
  }
}

TEST_F(GrpcTest, WantsOneOfItsTokensWhereOneIsSent) {
  settings_.tokens = {{.name = "ann", .secret = "sixteen characters or more"}};
  Start();
  auto ask = [this](const char* authorization) {
    ::grpc::ClientContext context;
    context.AddMetadata("authorization", authorization);
    inference::ModelInferResponse response;
    return stub_->ModelInfer(&context, RawRequest("echo", "UINT8", 1, "a"), &response).error_code();
  };
  EXPECT_EQ(ask("Bearer sixteen characters or less"), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(ask("Bearer sixteen characters or more"), StatusCode::OK);
  ::grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer nothing of the kind");
  auto stream = stub_->ModelStreamInfer(&context);
  inference::ModelStreamInferResponse none;
  EXPECT_FALSE(stream->Read(&none));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::UNAUTHENTICATED);
}

TEST_F(GrpcTest, NeedsATokenFromOtherMachines) {
  settings_.host = "0.0.0.0";
  auto refused = Server::Create(settings_, fakes_.services());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  settings_.tokens = {{.name = "ann", .secret = "sixteen characters or more"}};
  Start();
  inference::ModelInferResponse response;
  EXPECT_EQ(Infer(RawRequest("echo", "UINT8", 1, "a"), &response).error_code(), StatusCode::UNAUTHENTICATED);
  ::grpc::ClientContext live_context;
  inference::ServerLiveResponse live;
  EXPECT_TRUE(stub_->ServerLive(&live_context, inference::ServerLiveRequest(), &live).ok());
  ::grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer sixteen characters or more");
  inference::RepositoryModelLoadRequest load;
  inference::RepositoryModelLoadResponse loaded;
  load.set_model_name("echo");
  EXPECT_TRUE(stub_->RepositoryModelLoad(&context, load, &loaded).ok());
}

TEST_F(GrpcTest, NamesWhoHoldsATakenPort) {
  Start();
  ServerSettings second = settings_;
  second.port = std::stoi(server_->address().substr(server_->address().rfind(':') + 1));
  auto refused = Server::Create(second, fakes_.services());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("taken by"));
}

TEST_F(GrpcTest, RefusesSettingsThatCannotWork) {
  for (auto spoil :
       {+[](ServerSettings* s) { s->io_threads = 0; }, +[](ServerSettings* s) { s->control_threads = 0; },
        +[](ServerSettings* s) { s->max_message_bytes = 0; }, +[](ServerSettings* s) { s->max_streams = 0; }}) {
    ServerSettings bad = settings_;
    spoil(&bad);
    EXPECT_EQ(Server::Create(bad, fakes_.services()).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(Server::Create(settings_, fakes_.services(), InferenceMethods()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(GrpcTest, ServesMethodsThatItIsGiven) {
  using inference::ServerLiveRequest;
  using inference::ServerLiveResponse;
  Start({Unary<ServerLiveRequest, ServerLiveResponse>(
      "/test.Extra/Verb", http::Need::kManage,
      [](const Context& context, const ServerLiveRequest&, ServerLiveResponse* response) {
        response->set_live(context.caller.may_manage && context.caller.local);
        return absl::OkStatus();
      })});
  std::string answer;
  ASSERT_TRUE(AskRaw("/test.Extra/Verb", "", &answer).ok());
  ServerLiveResponse response;
  ASSERT_TRUE(response.ParseFromString(answer));
  EXPECT_TRUE(response.live());
}

TEST_F(GrpcTest, TakesShortProbesOnlySinceTheThreadsOfInferenceReadThem) {
  Start();
  const std::string check = "/grpc.health.v1.Health/Check";
  EXPECT_TRUE(AskRaw(check, "", nullptr, GRPC_COMPRESS_GZIP).ok());
  HealthCheckRequest request;
  request.set_service(std::string(100'000, 'a'));
  for (auto packed : {GRPC_COMPRESS_NONE, GRPC_COMPRESS_GZIP}) {
    const ::grpc::Status status = AskRaw(check, request.SerializeAsString(), nullptr, packed);
    EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(status.error_message(), HasSubstr("65536"));
  }
}

TEST_F(GrpcTest, NamesItsThreads) {
  std::mutex mutex;
  std::vector<std::string> names;
  settings_.on_io_thread = [&](const std::string& name) {
    std::lock_guard lock(mutex);
    names.push_back(name);
  };
  Start();
  server_->Stop(1);
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("grpc-io-0", "grpc-io-1", "grpc-accept"));
}

TEST_F(GrpcTest, LetsRequestsEndWhenItStops) {
  Start();
  std::thread client([this] {
    inference::ModelInferResponse response;
    EXPECT_TRUE(Infer(RawRequest("later", "UINT8", 1, "a"), &response).ok());
  });
  Recorded().waiting.WaitFor(1);
  std::thread stopper([this] { server_->Stop(60); });
  Recorded().waiting.LetWorkersRun(0);
  client.join();
  stopper.join();
  EXPECT_EQ(Recorded().waiting.workers, 0);
}

TEST_F(GrpcTest, CancelsWhatDoesNotEndInTime) {
  Start();
  std::thread client([this] {
    inference::ModelInferResponse response;
    EXPECT_FALSE(Infer(RawRequest("later", "UINT8", 1, "a"), &response).ok());
  });
  Recorded().waiting.WaitFor(1);
  std::thread stopper([this] { server_->Stop(0); });
  WaitForCancelled();
  Recorded().waiting.LetWorkersRun(0);
  client.join();
  stopper.join();
  EXPECT_EQ(Recorded().cancelled, 1);
}

TEST(EndpointOfPeerTest, ReadsWhatTheLibraryWrites) {
  EXPECT_EQ(EndpointOfPeer("ipv4:127.0.0.1:5000")->ToText(), "127.0.0.1:5000");
  EXPECT_EQ(EndpointOfPeer("ipv6:%5B::1%5D:5000")->ToText(), "[::1]:5000");
  EXPECT_EQ(EndpointOfPeer("ipv6:[::1]:5000")->ToText(), "[::1]:5000");
  EXPECT_FALSE(EndpointOfPeer("unix:/tmp/socket").has_value());
  EXPECT_FALSE(EndpointOfPeer("").has_value());
  EXPECT_FALSE(EndpointOfPeer("ipv4:127.0.0.1:port").has_value());
}

TEST(ServiceOfTest, CutsTheMethodOff) {
  EXPECT_EQ(ServiceOf("/package.Service/Method"), "package.Service");
  EXPECT_EQ(ServiceOf("nonsense"), "");
}

}  // namespace
}  // namespace tandem::api::rpc::testing
