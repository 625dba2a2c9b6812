#pragma once
// A running gRPC server with fake services, and a client of it.
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <string.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "api/grpc/server.h"
#include "api/http/testing/fake_services.h"
#include "health.grpc.pb.h"
#include "inference.grpc.pb.h"

namespace tandem::api::rpc::testing {

class GrpcTest : public ::testing::Test {
 protected:
  GrpcTest() { settings_.port = 0; }
  ~GrpcTest() override {
    fakes_.inference.recorded.slow.Open();
    Recorded().waiting.LetWorkersRun(0);
    server_.reset();
  }
  void Start(std::vector<Method> more = {}) {
    auto server = Server::Create(settings_, fakes_.services(), std::move(more));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    ASSERT_TRUE(server_->Start().ok());
    channel_ = Connect();
    stub_ = inference::GRPCInferenceService::NewStub(channel_);
  }
  std::shared_ptr<::grpc::Channel> Connect() {
    ::grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    // A connection of its own.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return ::grpc::CreateCustomChannel(server_->address(), ::grpc::InsecureChannelCredentials(), arguments);
  }
  http::testing::Recorded& Recorded() { return fakes_.inference.recorded; }

  // Until the server knows that the client of the oldest waiting request has gone.
  void WaitForCancelled() {
    while (!Recorded().waiting.IsOldestCancelled()) std::this_thread::yield();
  }

  template <typename T>
  static std::string BytesOf(const std::vector<T>& values) {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  // One input "x" in raw contents.
  static inference::ModelInferRequest RawRequest(const std::string& model, const std::string& datatype, int64_t count,
                                                 const std::string& bytes) {
    inference::ModelInferRequest request;
    request.set_model_name(model);
    auto* input = request.add_inputs();
    input->set_name("x");
    input->set_datatype(datatype);
    input->add_shape(count);
    request.add_raw_input_contents(bytes);
    return request;
  }
  ::grpc::Status Infer(const inference::ModelInferRequest& request, inference::ModelInferResponse* response) {
    ::grpc::ClientContext context;
    return stub_->ModelInfer(&context, request, response);
  }
  // The bytes as they are, to a method by its path.
  ::grpc::Status AskRaw(const std::string& path, const std::string& bytes, std::string* answer = nullptr,
                        grpc_compression_algorithm packed = GRPC_COMPRESS_NONE) {
    ::grpc::ClientContext context;
    context.set_compression_algorithm(packed);
    ::grpc::CompletionQueue queue;
    ::grpc::Slice slice(bytes);
    auto call = ::grpc::GenericStub(channel_).PrepareUnaryCall(&context, path, ::grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    ::grpc::ByteBuffer received;
    ::grpc::Status status;
    call->Finish(&received, &status, this);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    if (answer != nullptr && received.Valid()) {
      ::grpc::Slice whole;
      EXPECT_TRUE(received.DumpToSingleSlice(&whole).ok());
      answer->assign(reinterpret_cast<const char*>(whole.begin()), whole.size());
    }
    return status;
  }

  ServerSettings settings_;
  http::testing::FakeServices fakes_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<::grpc::Channel> channel_;
  std::unique_ptr<inference::GRPCInferenceService::Stub> stub_;
};

}  // namespace tandem::api::rpc::testing
