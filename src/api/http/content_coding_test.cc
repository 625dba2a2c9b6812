#include "api/http/content_coding.h"

#include <gmock/gmock.h>

#include "api/http/testing/server_fixture.h"

namespace tandem::api::http::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kGzip = MAX_WBITS + 16, kZlib = MAX_WBITS, kRaw = -MAX_WBITS;
constexpr char kEcho[] = "/v2/models/echo/infer";
constexpr char kBody[] = R"({"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}]})";

std::string Compressed(std::string_view text, int window) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Decompressed(std::string_view data, int window, size_t most = 64 << 20) {
  z_stream stream = {};
  EXPECT_EQ(inflateInit2(&stream, window), Z_OK);
  std::string out(most, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  EXPECT_EQ(stream.avail_in, 0u);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

std::string Noise(size_t size) {
  std::string noise(size, '\0');
  for (size_t i = 0; i < size; ++i) noise[i] = static_cast<char>(i * 2654435761u >> 13);
  return noise;
}

// A request with one UINT8 tensor; the answer is binary too.
struct BinaryRequest {
  explicit BinaryRequest(std::string bytes) : tensor(std::move(bytes)) {
    json = StrCat(R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[)", tensor.size(),
                  R"(],"datatype":"UINT8","parameters":{"binary_data_size":)", tensor.size(), "}}]}");
    header = StrCat("Inference-Header-Content-Length: ", json.size(), "\r\n");
  }
  std::string body() const { return json + tensor; }
  std::string tensor, json, header;
};

TEST(ContentCodingTest, ReadsTheHeaders) {
  EXPECT_EQ(CodingOfBody(""), Coding::kNone);
  EXPECT_EQ(CodingOfBody("identity"), Coding::kNone);
  EXPECT_EQ(CodingOfBody(" GZip "), Coding::kGzip);
  EXPECT_EQ(CodingOfBody("deflate"), Coding::kDeflate);
  EXPECT_EQ(CodingOfBody("br"), std::nullopt);
  EXPECT_EQ(CodingOfBody("gzip,deflate"), std::nullopt);
  const std::pair<const char*, Coding> cases[] = {
      {"", Coding::kNone},
      {"gzip", Coding::kGzip},
      {"deflate", Coding::kDeflate},
      {"br, deflate , gzip", Coding::kGzip},
      {"gzip;q=0.5, deflate", Coding::kDeflate},
      {"gzip; q=0", Coding::kNone},
      {"gzip;q=0.2,identity;q=0.9", Coding::kNone},
      {"*", Coding::kNone},
      {"gzip;q=x", Coding::kNone},
      {",;,q=", Coding::kNone},
  };
  for (const auto& [header, coding] : cases) EXPECT_EQ(CodingForAnswer(header), coding) << header;
}

TEST(ContentCodingTest, GivesTheSameBytesWhateverThePieces) {
  const std::string text = StrCat(Noise(300'000), std::string(300'000, 'a'));
  const iovec pieces[] = {{const_cast<char*>(text.data()), 7},
                          {const_cast<char*>(text.data()) + 7, 0},
                          {const_cast<char*>(text.data()) + 7, text.size() - 7}};
  for (Coding coding : {Coding::kGzip, Coding::kDeflate}) {
    std::string out;
    ASSERT_TRUE(Deflate(coding, pieces, &out).ok());
    EXPECT_EQ(Decompressed(out, coding == Coding::kGzip ? kGzip : kZlib), text);
    Inflater inflater(coding, out);
    BodyBuffer plain;
    plain.Start(0, 10);
    for (int i = 0;; ++i) {
      absl::StatusOr<bool> done = inflater.Run(50'000, &plain);
      ASSERT_TRUE(done.ok()) << done.status();
      ASSERT_EQ(plain.size(), std::min<size_t>(text.size(), (i + 1) * 50'000));
      if (*done) break;
      ASSERT_LT(i, 13);
    }
    EXPECT_EQ(plain.view(), text);
    EXPECT_EQ((reinterpret_cast<uintptr_t>(plain.view().data()) + 10) % 64, 0u);
  }
}

class CodedTest : public ServerTest {
 protected:
  Answer AskCoded(std::string_view path, std::string_view body, std::string_view coding, std::string_view more = "") {
    return Ask("POST", path, body, StrCat("Content-Encoding: ", coding, "\r\n", more));
  }
};

TEST_F(CodedTest, TakesCompressedRequests) {
  Start();
  const std::pair<int, std::string> ways[] = {
      {kGzip, "gzip"}, {kGzip, "x-gzip"}, {kZlib, "deflate"}, {kRaw, "deflate"}};
  for (const auto& [window, coding] : ways) {
    Answer answer = AskCoded(kEcho, Compressed(kBody, window), coding);
    EXPECT_EQ(answer.code, 200) << coding << answer.body;
    EXPECT_THAT(answer.body, HasSubstr("\"data\":[1]"));
    EXPECT_EQ(answer.headers.count("content-encoding"), 0);
    BinaryRequest request(Noise(1000));
    answer = AskCoded(kEcho, Compressed(request.body(), window), coding, request.header);
    EXPECT_TRUE(answer.body.ends_with(request.tensor)) << coding << answer.body;
  }
  EXPECT_FALSE(fakes_.inference.recorded.unaligned);
  std::string members = Compressed(std::string_view(kBody).substr(0, 9), kGzip);
  EXPECT_EQ(AskCoded(kEcho, members + Compressed(std::string_view(kBody).substr(9), kGzip), "gzip").code, 200);
  EXPECT_EQ(AskCoded("/v2/repository/index", Compressed("{}", kGzip), "gzip").code, 200);
  EXPECT_EQ(AskCoded(kEcho, kBody, "identity").code, 200);
}

TEST_F(CodedTest, TakesLargeCompressedRequestsAndKeepsTheConnection) {
  Start();
  TestClient client = Connect();
  for (size_t size : {100'000u, 3'000'000u}) {
    BinaryRequest request(Noise(size) + std::string(size, 'z'));
    Answer answer = client.Ask("POST", kEcho, Compressed(request.body(), kGzip),
                               StrCat("Content-Encoding: gzip\r\n", request.header));
    EXPECT_EQ(answer.code, 200) << answer.body.substr(0, 200);
    EXPECT_TRUE(answer.body.ends_with(request.tensor));
  }
  EXPECT_FALSE(fakes_.inference.recorded.unaligned);
}

TEST_F(CodedTest, RefusesCodingsItDoesNotKnow) {
  Start();
  Answer answer = AskCoded(kEcho, kBody, "br");
  EXPECT_EQ(answer.code, 415);
  EXPECT_EQ(answer.headers["accept-encoding"], "gzip, deflate");
  EXPECT_THAT(answer.body, HasSubstr("gzip"));
  EXPECT_EQ(AskCoded("/api/v1/models/m/versions", kBody, "gzip").code, 415);
}

TEST_F(CodedTest, RefusesBrokenData) {
  Start();
  TestClient client = Connect();
  const std::string good = Compressed(kBody, kGzip);
  std::string flipped = good;
  flipped[good.size() - 6] ^= 1;  // the checksum
  const std::pair<std::string, std::string> cases[] = {
      {kBody, "not gzip"},
      {good.substr(0, good.size() / 2), "cut off"},
      {good.substr(0, 1), "cut off"},
      {StrCat(good, "x"), "cut off"},
      {StrCat(good, "more"), "byte"},
      {flipped, "check"},
  };
  for (const auto& [body, reason] : cases) {
    Answer answer = client.Ask("POST", kEcho, body, "Content-Encoding: gzip\r\n");
    EXPECT_EQ(answer.code, 400) << reason;
    EXPECT_THAT(answer.body, HasSubstr(reason));
  }
  EXPECT_EQ(AskCoded(kEcho, StrCat(Compressed(kBody, kZlib), "x"), "deflate").code, 400);
  EXPECT_EQ(AskCoded(kEcho, "", "gzip").code, 400) << "nothing is not JSON either";
}

TEST_F(CodedTest, RefusesWhatGrowsBeyondTheLimit) {
  settings_.max_body_bytes = 2'000'000;
  Start();
  TestClient client = Connect();
  const std::string bomb = Compressed(std::string(100'000'000, ' '), kGzip);
  ASSERT_LT(bomb.size(), 200'000u);
  for (const char* path : {kEcho, "/v2/repository/index"}) {
    Answer answer = client.Ask("POST", path, bomb, "Content-Encoding: gzip\r\n");
    EXPECT_EQ(answer.code, 413);
    EXPECT_THAT(answer.body, HasSubstr("decompressed"));
  }
  EXPECT_EQ(client.Ask("POST", kEcho, kBody).code, 200);
}

TEST_F(CodedTest, CompressesAnswersForThoseWhoAsk) {
  Start();
  TestClient client = Connect();
  for (size_t size : {10u, 20'000u, 2'000'000u}) {
    BinaryRequest request(Noise(size));
    const std::pair<int, std::string> ways[] = {{kGzip, "gzip"}, {kZlib, "deflate"}};
    for (const auto& [window, coding] : ways) {
      Answer answer = client.Ask("POST", kEcho, request.body(),
                                 StrCat("Accept-Encoding: ", coding, "\r\nX-Request-Id: i\r\n", request.header));
      ASSERT_EQ(answer.code, 200);
      EXPECT_EQ(answer.headers["content-encoding"], coding);
      EXPECT_EQ(answer.headers["x-request-id"], "i");
      std::string plain = Decompressed(answer.body, window);
      size_t json_bytes = std::stoul(answer.headers["inference-header-content-length"]);
      EXPECT_EQ(plain.substr(json_bytes), request.tensor);
      EXPECT_TRUE(plain.starts_with("{\"model_name\""));
    }
  }
  Answer control = client.Ask("GET", "/v2", "", "Accept-Encoding: gzip\r\n");
  EXPECT_THAT(control.body, HasSubstr("extensions")) << "the asyncio client asks, and does not unpack it";
}

TEST_F(CodedTest, SendsErrorsAndFilesPlain) {
  fakes_.models.file = StrCat(::testing::TempDir(), "/coded-file-", getpid());
  ASSERT_TRUE(WriteFileAtomically(fakes_.models.file, "the model").ok());
  Start();
  Answer answer = Ask("POST", "/v2/models/none/infer", kBody, "Accept-Encoding: gzip\r\n");
  EXPECT_EQ(answer.code, 404);
  EXPECT_THAT(answer.body, HasSubstr("none"));
  answer = Ask("GET", "/api/v1/models/m/file?version=1", "", "Accept-Encoding: gzip\r\n");
  EXPECT_EQ(answer.body, "the model");
  std::filesystem::remove(fakes_.models.file);
}

}  // namespace
}  // namespace tandem::api::http::testing
