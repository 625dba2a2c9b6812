// The HTTP door with models that echo and nothing else behind it: what the door itself costs.
//
//   echo_http_server PORT [IO_THREADS]      serves until its input ends
#include <stdio.h>
#include <stdlib.h>

#include "api/http/server.h"
#include "api/http/testing/fake_services.h"

int main(int argc, char** argv) {
  tandem::api::http::testing::FakeServices fakes;
  tandem::api::http::ServerSettings settings;
  settings.port = argc > 1 ? atoi(argv[1]) : 0;
  settings.metrics_port = 0;
  if (argc > 2) settings.io_threads = atoi(argv[2]);
  auto server = tandem::api::http::Server::Create(settings, fakes.services());
  absl::Status status = server.ok() ? (*server)->Start() : server.status();
  if (!status.ok()) {
    fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  printf("%s\n", (*server)->http_address().c_str());
  fflush(stdout);
  while (getchar() != EOF) {
  }
  (*server)->Stop(1);
}
