// The gRPC door with fake services behind it: what the door itself costs.
//
//   echo_grpc_server ADDRESS [THREADS]      ADDRESS: HOST:PORT
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/grpc/server.h"
#include "api/http/testing/fake_services.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: echo_grpc_server ADDRESS [THREADS]\n");
    return 2;
  }
  const std::string address = argv[1];
  tandem::api::rpc::ServerSettings settings;
  settings.host = address.substr(0, address.rfind(':'));
  settings.port = atoi(address.c_str() + address.rfind(':') + 1);
  if (argc > 2) settings.io_threads = atoi(argv[2]);
  tandem::api::http::testing::FakeServices fakes;
  auto server = tandem::api::rpc::Server::Create(settings, fakes.services());
  if (!server.ok() || !(*server)->Start().ok()) {
    fprintf(stderr, "echo_grpc_server: %s\n", server.status().ToString().c_str());
    return 1;
  }
  printf("%s\n", (*server)->address().substr((*server)->address().rfind(':') + 1).c_str());
  fflush(stdout);
  pause();
}
