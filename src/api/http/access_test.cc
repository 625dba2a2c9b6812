#include "api/http/access.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include "api/http/testing/server_fixture.h"

namespace tandem::api::http::testing {
namespace {

using ::testing::HasSubstr;

class AccessTest : public ServerTest {
 protected:
  Answer AskAs(std::string_view host, std::string_view headers, std::string_view verb = "GET",
               std::string_view path = "/v2") {
    TestClient client = Connect();
    client.Send(StrCat(verb, " ", path, " HTTP/1.1\r\nHost: ", host, "\r\n", headers, "\r\n"));
    return client.Read();
  }
  std::string WriteTokens(const std::string& text, mode_t mode) {
    std::string path = ::testing::TempDir() + "/tokens-" + std::to_string(getpid());
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }
};

TEST_F(AccessTest, RefusesForeignHostNames) {
  Start();
  for (const char* good : {"localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:9"}) EXPECT_EQ(AskAs(good, "").code, 200);
  for (const char* bad :
       {"evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil", "", "[::2]"}) {
    EXPECT_EQ(AskAs(bad, "").code, 403) << bad;
  }
}

TEST_F(AccessTest, RefusesRequestsOfOtherSites) {
  Start();
  EXPECT_EQ(AskAs("localhost:1", "Origin: http://localhost:1\r\n").code, 200);
  for (const char* origin : {"http://evil.example", "null", "http://localhost:2", "http://localhost:1.evil"}) {
    EXPECT_EQ(AskAs("localhost:1", StrCat("Origin: ", origin, "\r\n")).code, 403) << origin;
    EXPECT_EQ(AskAs("localhost:1", StrCat("Origin: ", origin, "\r\n"), "POST", "/api/v1/stop").code, 403) << origin;
  }
  EXPECT_FALSE(fakes_.admin.stopped);
}

TEST_F(AccessTest, LetsOtherUsersPredictButNotManage) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  // The other user's process is made before the server has threads, whose locks it would inherit.
  int tell[2];
  ASSERT_EQ(pipe(tell), 0);
  fflush(nullptr);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    close(tell[1]);
    char address[64] = {};
    if (setuid(65534) != 0 || read(tell[0], address, sizeof address - 1) <= 0) _exit(99);
    TestClient client{std::string(address)};
    bool good = client.Ask("GET", "/v2").code == 200 && client.Ask("GET", "/metrics").code == 200 &&
                client.Ask("GET", "/api/v1/status").code == 403 && client.Ask("POST", "/api/v1/stop").code == 403 &&
                client.Ask("POST", "/v2/repository/models/echo/unload").code == 403 &&
                client.Ask("POST", "/api/v1/models/m/versions", std::string(3'000'000, 'x')).code == 403;
    _exit(good ? 0 : 1);
  }
  Start();
  const std::string address = server_->http_address();
  EXPECT_EQ(write(tell[1], address.data(), address.size()), static_cast<ssize_t>(address.size()));
  close(tell[0]);
  close(tell[1]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(fakes_.admin.stopped);
  EXPECT_EQ(SpooledFiles(), 0);
}

TEST_F(AccessTest, NeedsATokenElsewhereThanOnLoopback) {
  settings_.host = "0.0.0.0";
  auto refused = Server::Create(settings_, fakes_.services());
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(std::string(MessageOf(refused.status())), HasSubstr("--token-file"));

  settings_.tokens = {{"ann", "0123456789abcdef"}, {"bob", "fedcba9876543210"}};
  Start();
  EXPECT_EQ(AskAs("any.name", "", "GET", "/v2/health/live").code, 200);
  Answer without = AskAs("any.name", "");
  EXPECT_EQ(without.code, 401);
  EXPECT_THAT(without.headers["www-authenticate"], HasSubstr("Bearer"));
  EXPECT_EQ(AskAs("any.name", "Authorization: Bearer 0123456789abcdeX\r\n").code, 401);
  EXPECT_EQ(AskAs("any.name", "Authorization: Basic 0123456789abcdef\r\n").code, 401);
  EXPECT_EQ(AskAs("any.name", "authorization: bearer 0123456789abcdef\r\n").code, 200);
  Answer job = TestClient(server_->http_address())
                   .Ask("POST", "/api/v1/jobs", "{}", "Authorization: Bearer fedcba9876543210\r\n");
  EXPECT_EQ(job.code, 200);
  EXPECT_THAT(job.body, HasSubstr("\"submitted_by\":\"bob\""));
}

TEST_F(AccessTest, NamesTheHolderOfATakenPort) {
  Start();
  std::string address = server_->http_address();
  settings_.port = std::stoi(address.substr(address.find(':') + 1));
  auto second = Server::Create(settings_, fakes_.services());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(MessageOf(second.status())), HasSubstr(StrCat("process ", getpid(), " (api_test)")));
}

TEST_F(AccessTest, RefusesAddressesThatAreNone) {
  settings_.host = "999.1.1.1";
  EXPECT_FALSE(Server::Create(settings_, fakes_.services()).ok());
  settings_.host = "127.0.0.1";
  settings_.port = 70000;
  EXPECT_FALSE(Server::Create(settings_, fakes_.services()).ok());
}

TEST_F(AccessTest, ListensOnIpv6Loopback) {
  settings_.metrics_host = "::1";
  auto server = Server::Create(settings_, fakes_.services());
  if (!server.ok()) GTEST_SKIP() << server.status();
  EXPECT_THAT((*server)->metrics_address(), ::testing::StartsWith("[::1]:"));
}

TEST_F(AccessTest, FindsTheUserOfAConnectionByBothWays) {
  Start();
  TestClient client = Connect();
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  getsockname(client.fd(), reinterpret_cast<sockaddr*>(&address), &size);
  Endpoint peer = EndpointOf(address);
  size = sizeof address;
  getpeername(client.fd(), reinterpret_cast<sockaddr*>(&address), &size);
  Endpoint local = EndpointOf(address);
  EXPECT_EQ(UidOfPeer(peer, local), geteuid());
  EXPECT_EQ(UidFromProc(peer, local), geteuid());
  local.port = 1;
  EXPECT_EQ(UidFromProc(peer, local), std::nullopt);
}

TEST_F(AccessTest, KnowsNoUserOfAConnectionThatItsProcessHasClosed) {
  Start();
  Endpoint peer, local;
  {
    TestClient client = Connect();
    sockaddr_storage address = {};
    socklen_t size = sizeof address;
    getsockname(client.fd(), reinterpret_cast<sockaddr*>(&address), &size);
    peer = EndpointOf(address);
    size = sizeof address;
    getpeername(client.fd(), reinterpret_cast<sockaddr*>(&address), &size);
    local = EndpointOf(address);
  }
  EXPECT_EQ(UidOfPeer(peer, local), std::nullopt);
  EXPECT_EQ(UidFromProc(peer, local), std::nullopt);
}

TEST_F(AccessTest, ReadsTokenFiles) {
  auto tokens = ReadTokenFile(WriteTokens("# who\n\n ann : 0123456789abcdef \r\nbob:has:colons:0123456789\n", 0600));
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  ASSERT_EQ(tokens->size(), 2);
  EXPECT_EQ((*tokens)[0].name, "ann");
  EXPECT_EQ((*tokens)[0].secret, "0123456789abcdef");
  EXPECT_EQ((*tokens)[1].secret, "has:colons:0123456789");
}

TEST_F(AccessTest, RefusesTokenFilesThatOthersMayReadOrThatAreWrong) {
  EXPECT_THAT(std::string(MessageOf(ReadTokenFile(WriteTokens("ann:0123456789abcdef\n", 0640)).status())),
              HasSubstr("chmod 600"));
  auto message = [&](const std::string& text) {
    return std::string(MessageOf(ReadTokenFile(WriteTokens(text, 0600)).status()));
  };
  EXPECT_THAT(message("ann:0123456789abcdef\nann\n"), HasSubstr("line 2"));
  EXPECT_THAT(message("ann:short\n"), HasSubstr("16 or more"));
  EXPECT_THAT(message("# nothing\n"), HasSubstr("holds no token"));
  EXPECT_EQ(ReadTokenFile("/does/not/exist").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace tandem::api::http::testing
