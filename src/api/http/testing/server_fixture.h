#pragma once
// A running server with fake services on ports of its own.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>

#include "api/http/server.h"
#include "api/http/testing/fake_services.h"
#include "api/http/testing/test_client.h"

namespace tandem::api::http::testing {

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() {
    settings_.port = 0;
    settings_.metrics_port = 0;
    settings_.spool_folder = ::testing::TempDir() + "/spool-" + std::to_string(getpid());
  }
  ~ServerTest() override {
    fakes_.inference.recorded.slow.Open();
    fakes_.models.slow.Open();
    server_.reset();
    std::filesystem::remove_all(settings_.spool_folder);
  }
  void Start() {
    auto server = Server::Create(settings_, fakes_.services());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    ASSERT_TRUE(server_->Start().ok());
  }
  TestClient Connect() { return TestClient(server_->http_address()); }
  Answer Ask(std::string_view verb, std::string_view path, std::string_view body = "", std::string_view headers = "") {
    return Connect().Ask(verb, path, body, headers);
  }
  size_t SpooledFiles() {
    if (!std::filesystem::exists(settings_.spool_folder)) return 0;
    std::filesystem::directory_iterator all(settings_.spool_folder);
    return std::distance(begin(all), end(all));
  }

  ServerSettings settings_;
  FakeServices fakes_;
  std::unique_ptr<Server> server_;
};

}  // namespace tandem::api::http::testing
