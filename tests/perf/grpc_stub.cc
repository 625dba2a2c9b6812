// The least that a gRPC server can do: the callback API, each input sent back as an output. What the real server is
// measured against (bench_grpc.py).
//
//   grpc_stub ADDRESS
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <stdio.h>

#include "inference.grpc.pb.h"

namespace {

class Echo : public inference::GRPCInferenceService::CallbackService {
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const inference::ModelInferRequest* request,
                                       inference::ModelInferResponse* response) override {
    response->set_model_name(request->model_name());
    response->set_model_version("1");
    response->set_id(request->id());
    for (const auto& input : request->inputs()) {
      auto* output = response->add_outputs();
      output->set_name(input.name());
      output->set_datatype(input.datatype());
      *output->mutable_shape() = input.shape();
    }
    *response->mutable_raw_output_contents() = request->raw_input_contents();
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: grpc_stub ADDRESS\n");
    return 2;
  }
  Echo echo;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(argv[1], grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterService(&echo);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    fprintf(stderr, "grpc_stub: cannot listen on %s\n", argv[1]);
    return 1;
  }
  printf("%d\n", port);
  fflush(stdout);
  server->Wait();
}
