#include "daemon/inference_service.h"

#include <gtest/gtest.h>

#include "daemon/testing/fake_serving.h"

namespace tandem::daemon {
namespace {

// One version, of which it tells who holds it.
class OneVersion : public testing::FakeServing {
 public:
  absl::StatusOr<serving::Target> Open(std::string_view, std::string_view) const override {
    return serving::Target{handle, nullptr};
  }
  serving::ModelHandle handle = std::make_shared<testing::FakeVersion>("m", 3, std::vector<TensorSignature>());
};

class Door : public api::InferRequest::Owner {
 public:
  void Finished(api::InferRequest*) override { ++finished; }
  int finished = 0;
};

TEST(InferenceService, GivesTheVersionBackOnceTheRequestIsCounted) {
  OneVersion serving;
  InferenceService service(&serving, Clock::Real());
  absl::StatusOr<std::unique_ptr<api::InferSession>> session = service.Open("m", "");
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(serving.handle.use_count(), 2);
  Door door;
  api::InferRequest request;
  request.owner = &door;
  (*session)->Start(&request);
  EXPECT_EQ(door.finished, 1);
  (*session)->Done(false, request.timing, 1, 1);
  EXPECT_EQ(serving.handle.use_count(), 1) << "while the answer is sent, the version may be unloaded";
  EXPECT_EQ((*session)->model(), "m");
  EXPECT_EQ((*session)->version(), "3");
}

}  // namespace
}  // namespace tandem::daemon
