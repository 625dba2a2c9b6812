#include "messaging/channel.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "base/status.h"
#include "trainer.pb.h"

namespace tandem::messaging {
namespace {

using ::testing::HasSubstr;

struct Pair {
  Pair() {
    auto sockets = MakeSocketPair();
    EXPECT_TRUE(sockets.ok());
    raw = sockets->second.get();
    near = std::make_unique<Channel>(std::move(sockets->first));
    far = std::make_unique<Channel>(std::move(sockets->second));
  }
  int raw;
  std::unique_ptr<Channel> near, far;
};

wire::EvalAnswer Answer(const std::string& text) {
  wire::EvalAnswer answer;
  answer.set_error(text);
  return answer;
}

std::string FrameOf(const std::string& payload) {
  std::string frame("TM\x01\0", 4);
  for (int i = 0; i < 4; ++i) frame.push_back(static_cast<char>(payload.size() >> (8 * i)));
  return frame + payload;
}

TEST(Channel, CarriesMessagesBothWaysInOrder) {
  Pair pair;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(pair.near->Send(Answer(StrCat("n", i))).ok());
  ASSERT_TRUE(pair.far->Send(Answer("back")).ok());
  wire::EvalAnswer got;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(pair.far->Receive(&got, 1000).ok());
    EXPECT_EQ(got.error(), StrCat("n", i));
  }
  ASSERT_TRUE(pair.near->Receive(&got, -1).ok());
  EXPECT_EQ(got.error(), "back");
}

TEST(Channel, CarriesAnEmptyMessage) {
  Pair pair;
  ASSERT_TRUE(pair.near->Send(wire::EvalAnswer()).ok());
  wire::EvalAnswer got = Answer("old");
  ASSERT_TRUE(pair.far->Receive(&got, 1000).ok());
  EXPECT_EQ(got.error(), "");
}

TEST(Channel, CarriesAMessageLargerThanTheSocketsBuffer) {
  Pair pair;
  const std::string big(20 << 20, 'x');
  std::thread sender([&] { EXPECT_TRUE(pair.near->Send(Answer(big)).ok()); });
  wire::EvalAnswer got;
  EXPECT_TRUE(pair.far->Receive(&got, 10'000).ok());
  EXPECT_TRUE(got.error() == big);
  sender.join();
}

TEST(Channel, WritesExactlyTheDocumentedFrame) {
  Pair pair;
  ASSERT_TRUE(pair.near->Send(Answer("hi")).ok());
  char bytes[64];
  ssize_t n = recv(pair.raw, bytes, sizeof bytes, 0);
  EXPECT_EQ(std::string(bytes, n), FrameOf("\x0a\x02hi"));
}

TEST(Channel, SaysSoWhenNothingCameInTime) {
  Pair pair;
  wire::EvalAnswer got;
  EXPECT_EQ(pair.far->Receive(&got, 0).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(pair.far->Receive(&got, 20).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(Channel, GoesOnWithAFrameThatATimeoutCutAtAnyByte) {
  const std::string frame = FrameOf(Answer("slow").SerializeAsString());
  Pair pair;
  wire::EvalAnswer got;
  for (char byte : frame) {
    EXPECT_EQ(pair.far->Receive(&got, 0).code(), absl::StatusCode::kDeadlineExceeded);
    ASSERT_EQ(send(pair.near->fd(), &byte, 1, 0), 1);
  }
  ASSERT_TRUE(pair.far->Receive(&got, 0).ok());
  EXPECT_EQ(got.error(), "slow");
}

TEST(Channel, ReportsAPeerThatClosesAtAnyByte) {
  const std::string frame = FrameOf(Answer("half").SerializeAsString());
  for (size_t cut = 0; cut < frame.size(); ++cut) {
    Pair pair;
    ASSERT_EQ(send(pair.near->fd(), frame.data(), cut, 0), static_cast<ssize_t>(cut));
    pair.near.reset();
    wire::EvalAnswer got;
    absl::Status status = pair.far->Receive(&got, 1000);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << cut;
    EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("the peer closed"));
  }
}

TEST(Channel, SendToAClosedPeerIsAStatusAndNoSignal) {
  Pair pair;
  pair.far.reset();
  EXPECT_EQ(pair.near->Send(Answer("x")).code(), absl::StatusCode::kUnavailable);
}

TEST(Channel, ReceivesWhatAPeerSentBeforeItClosed) {
  Pair pair;
  ASSERT_TRUE(pair.near->Send(Answer("last words")).ok());
  pair.near.reset();
  wire::EvalAnswer got;
  ASSERT_TRUE(pair.far->Receive(&got, 1000).ok());
  EXPECT_EQ(got.error(), "last words");
  EXPECT_EQ(pair.far->Receive(&got, 1000).code(), absl::StatusCode::kUnavailable);
}

TEST(Channel, RefusesGarbageOtherVersionsAndGiantFrames) {
  const std::pair<std::string, const char*> cases[] = {
      {"GET / HTTP/1.1\r\n", "does not begin with 'TM'"},
      {std::string("TM\x02\0\0\0\0\0", 8), "version 2"},
      {std::string("TM\x01\x07\0\0\0\0", 8), "does not begin"},
      {std::string("TM\x01\0\x01\0\0\x10", 8), "268435457 bytes"},
      {std::string("TM\x01\0\xff\xff\xff\xff", 8), "4294967295 bytes"},
  };
  for (const auto& [bytes, words] : cases) {
    Pair pair;
    ASSERT_EQ(send(pair.near->fd(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    wire::EvalAnswer got;
    for (int again = 0; again < 2; ++again) {
      absl::Status status = pair.far->Receive(&got, 1000);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(words));
    }
  }
}

TEST(Channel, GoesOnAfterAFrameThatIsNoMessage) {
  Pair pair;
  std::string frame = FrameOf("\xff\xff\xff");
  ASSERT_EQ(send(pair.near->fd(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  ASSERT_TRUE(pair.near->Send(Answer("good")).ok());
  wire::EvalAnswer got;
  absl::Status status = pair.far->Receive(&got, 1000);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("EvalAnswer"));
  ASSERT_TRUE(pair.far->Receive(&got, 1000).ok());
  EXPECT_EQ(got.error(), "good");
}

TEST(Channel, RefusesToSendMoreThanTheLimit) {
  Pair pair;
  wire::EvalAnswer answer;
  answer.mutable_logits()->resize(Channel::kMaxBytes);
  EXPECT_EQ(pair.near->Send(answer).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Channel, KeepsFramesWholeWhenTwoThreadsSend) {
  Pair pair;
  constexpr int kEach = 50;
  auto send_all = [&](char letter) {
    for (int i = 0; i < kEach; ++i) EXPECT_TRUE(pair.near->Send(Answer(std::string(300'000, letter))).ok());
  };
  std::thread a(send_all, 'a'), b(send_all, 'b');
  int count[2] = {0, 0};
  for (int i = 0; i < 2 * kEach; ++i) {
    wire::EvalAnswer got;
    ASSERT_TRUE(pair.far->Receive(&got, 10'000).ok());
    ASSERT_EQ(got.error(), std::string(300'000, got.error()[0]));
    ++count[got.error()[0] - 'a'];
  }
  a.join();
  b.join();
  EXPECT_EQ(count[0], kEach);
  EXPECT_EQ(count[1], kEach);
}

TEST(Channel, ShutdownWakesAReceiverOnEitherSide) {
  for (bool own : {true, false}) {
    Pair pair;
    absl::Status status;
    std::thread receiver([&] {
      wire::EvalAnswer got;
      status = pair.far->Receive(&got, -1);
    });
    (own ? pair.far : pair.near)->Shutdown();
    receiver.join();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  }
}

TEST(Channel, ShutdownWakesASenderWhosePeerDoesNotRead) {
  Pair pair;
  absl::Status status;
  std::thread sender([&] { status = pair.near->Send(Answer(std::string(20 << 20, 'x'))); });
  char byte;
  ASSERT_EQ(recv(pair.raw, &byte, 1, 0), 1);  // it has begun
  pair.far->Shutdown();
  sender.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
}

TEST(Channel, SurvivesSignalsWhileItWaits) {
  struct sigaction action = {}, old;
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, &old);
  Pair pair;
  absl::Status status;
  wire::EvalAnswer got;
  std::thread receiver([&] { status = pair.far->Receive(&got, -1); });
  const std::string frame = FrameOf(Answer("through").SerializeAsString());
  for (char byte : frame) {
    pthread_kill(receiver.native_handle(), SIGUSR1);
    ASSERT_EQ(send(pair.near->fd(), &byte, 1, 0), 1);
  }
  receiver.join();
  sigaction(SIGUSR1, &old, nullptr);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(got.error(), "through");
}

TEST(Channel, ReportsAChildThatIsKilledInTheMiddleOfAFrame) {
  auto sockets = MakeSocketPair();
  ASSERT_TRUE(sockets.ok());
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const char half[] = "TM\x01\0\x40\0\0\0half";
    if (write(sockets->second.get(), half, sizeof half - 1) < 0) _exit(1);
    pause();
    _exit(0);
  }
  sockets->second.Reset();
  Channel channel(std::move(sockets->first));
  wire::EvalAnswer got;
  EXPECT_EQ(channel.Receive(&got, 50).code(), absl::StatusCode::kDeadlineExceeded);
  kill(child, SIGKILL);
  EXPECT_EQ(channel.Receive(&got, -1).code(), absl::StatusCode::kUnavailable);
  int wait_status;
  ASSERT_EQ(waitpid(child, &wait_status, 0), child);
  EXPECT_EQ(channel.Send(Answer("anybody?")).code(), absl::StatusCode::kUnavailable);
}

TEST(SocketPair, IsClosedOnExec) {
  auto sockets = MakeSocketPair();
  ASSERT_TRUE(sockets.ok());
  for (int fd : {sockets->first.get(), sockets->second.get()}) EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
}

}  // namespace
}  // namespace tandem::messaging
