// Asks a server for ModelInfer as fast as it answers: CONCURRENCY calls in flight on one connection each, one thread.
// Prints one line of JSON: requests/s, p50 and p99 in microseconds.
//
//   grpc_load ADDRESS MODEL BYTES CONCURRENCY SECONDS
#include <grpcpp/create_channel.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "inference.grpc.pb.h"

namespace {

using Time = std::chrono::steady_clock::time_point;
Time Now() { return std::chrono::steady_clock::now(); }

// One client, one call at a time.
struct Client {
  std::unique_ptr<inference::GRPCInferenceService::Stub> stub;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::ClientAsyncResponseReader<inference::ModelInferResponse>> reader;
  inference::ModelInferResponse response;
  grpc::Status status;
  Time asked;

  void Ask(const inference::ModelInferRequest& request, grpc::CompletionQueue* queue) {
    context = std::make_unique<grpc::ClientContext>();
    asked = Now();
    reader = stub->AsyncModelInfer(context.get(), request, queue);
    reader->Finish(&response, &status, this);
  }
};

inference::ModelInferRequest MakeRequest(const char* model, const char* input_name, long bytes) {
  inference::ModelInferRequest request;
  request.set_model_name(model);
  auto* input = request.add_inputs();
  input->set_name(input_name);
  input->set_datatype("FP32");
  input->add_shape(bytes / 4);
  request.add_raw_input_contents(std::string(bytes / 4 * 4, '\0'));
  return request;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    fprintf(stderr, "usage: grpc_load ADDRESS MODEL INPUT BYTES CONCURRENCY SECONDS\n");
    return 2;
  }
  const inference::ModelInferRequest request = MakeRequest(argv[2], argv[3], atol(argv[4]));
  grpc::CompletionQueue queue;
  std::vector<Client> clients(atoi(argv[5]));
  for (Client& client : clients) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    client.stub = inference::GRPCInferenceService::NewStub(
        grpc::CreateCustomChannel(argv[1], grpc::InsecureChannelCredentials(), arguments));
    client.Ask(request, &queue);
  }
  std::vector<double> micros;
  // What was asked in the first tenth warms up.
  const double seconds = atof(argv[6]);
  const Time begin = Now() + std::chrono::microseconds(static_cast<int64_t>(1e5 * seconds));
  const Time end = begin + std::chrono::microseconds(static_cast<int64_t>(1e6 * seconds));
  size_t open = clients.size();
  void* tag;
  bool ok;
  while (open > 0 && queue.Next(&tag, &ok)) {
    Client* client = static_cast<Client*>(tag);
    if (!client->status.ok()) {
      fprintf(stderr, "grpc_load: %s\n", client->status.error_message().c_str());
      return 1;
    }
    const Time now = Now();
    if (client->asked >= begin && now < end) {
      micros.push_back(std::chrono::duration<double, std::micro>(now - client->asked).count());
    }
    if (now < end) {
      client->Ask(request, &queue);
    } else {
      --open;
    }
  }
  if (micros.empty()) return 1;
  std::sort(micros.begin(), micros.end());
  printf("{\"requests_per_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", micros.size() / seconds,
         micros[micros.size() / 2], micros[micros.size() * 99 / 100]);
}
