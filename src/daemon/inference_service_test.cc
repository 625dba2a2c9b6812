#include "daemon/inference_service.h"

#include <gmock/gmock.h>
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

class StatesAsGiven : public testing::FakeServing {
 public:
  std::vector<serving::VersionStatus> States() const override { return states; }
  std::vector<serving::VersionStatus> states;
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

TEST(InferenceService, AVersionThatIsSwappedStandsOnceInTheIndex) {
  using serving::VersionState;
  StatesAsGiven serving;
  auto add = [&](std::string model, int32_t version, VersionState state) {
    serving::VersionStatus& status = serving.states.emplace_back();
    status.model = std::move(model);
    status.version = version;
    status.state = state;
  };
  add("m", 1, VersionState::kReady);
  add("m", 2, VersionState::kReady);
  add("m", 1, VersionState::kUnloading);  // on the engine before
  add("m", 3, VersionState::kUnloading);  // for good
  add("n", 1, VersionState::kUnloading);
  add("n", 1, VersionState::kLoading);
  InferenceService service(&serving, Clock::Real());
  std::vector<std::string> told;
  for (const api::RepositoryEntry& entry : service.Repository(/*ready_only=*/false)) {
    told.push_back(StrCat(entry.model, "/", entry.version, " ", entry.state));
  }
  EXPECT_THAT(told, ::testing::ElementsAre("m/1 READY", "m/2 READY", "m/3 UNLOADING", "n/1 LOADING"));
  EXPECT_EQ(service.Repository(/*ready_only=*/true).size(), 2u);
}

}  // namespace
}  // namespace tandem::daemon
