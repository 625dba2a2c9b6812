#include "daemon/explain.h"

#include <gmock/gmock.h>

#include "base/status.h"

namespace tandem::daemon {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kNow = 1'767'355'200'000;  // Friday 2026-01-02, 12:00 UTC
constexpr int64_t kHour = 3'600'000;
constexpr std::string_view kNight =
    "windows: [{name: night, from: '22:00', to: '06:00', time_zone: UTC, training: {cpu: 50%}, lend: true}]\n";

GovernorView View(std::string_view yaml, bool training_open = true) {
  absl::StatusOr<spec::SharingSpec> sharing = spec::ParseSharing(yaml, "share.yaml");
  EXPECT_TRUE(sharing.ok()) << sharing.status();
  GovernorView view;
  view.rules = *MakeRules(*std::move(sharing));
  view.grant.training_open = training_open;
  view.grant.training_memory_bytes = 1'000'000'000;
  view.training_threads = view.allowed_threads = 2;
  return view;
}

jobs::JobRecord Queued() {
  jobs::JobRecord job;
  job.id = 7;
  job.reason = "a reason of the policy";
  job.memory_bytes = 500'000'000;
  return job;
}

wire::JobExplanation Explained(const jobs::JobRecord& job, const GovernorView& view) {
  return Explain(job, {job}, view, isolation::Capabilities(), kNow);
}

void ExpectStart(const jobs::JobRecord& job, const GovernorView& view, std::string_view how, int64_t earliest_ms) {
  wire::JobExplanation told = Explained(job, view);
  EXPECT_EQ(told.waits_for(), "a reason of the policy");
  EXPECT_THAT(told.would_start(), HasSubstr(how));
  EXPECT_EQ(static_cast<int64_t>(told.earliest_ms()), earliest_ms) << how;
}

TEST(Explain, SaysWhatWouldStartAJobThatWaitsForASeat) {
  ExpectStart(Queued(), View(""), "the end, pause or release of what runs", 0);
}

TEST(Explain, SaysWhatWouldStartAJobThatItsOwnerPaused) {
  jobs::JobRecord job = Queued();
  job.pause_requested = true;
  ExpectStart(job, View(""), "tandem jobs resume 7", 0);
}

TEST(Explain, SaysWhenTheNextAttemptBegins) {
  jobs::JobRecord job = Queued();
  job.not_before_ms = kNow + 2000;
  ExpectStart(job, View(""), "the time of its next attempt", kNow + 2000);
}

TEST(Explain, SaysThatAJobWhichNeverFitsNeedsOtherNumbers) {
  jobs::JobRecord job = Queued();
  job.threads = 3;
  ExpectStart(job, View(""), "fewer resources.threads", 0);
  job.threads = 2;
  job.memory_bytes = 2'000'000'000;
  ExpectStart(job, View(""), "more training.memory", 0);
}

TEST(Explain, SaysWhenTheJobsWindowOpens) {
  jobs::JobRecord job = Queued();
  job.window = "night";
  ExpectStart(job, View(kNight), "the opening of window 'night'", kNow + 10 * kHour);
  ExpectStart(job, View(""), "a window 'night' in the sharing document", 0);
}

TEST(Explain, SaysWhenTrainingMayRunAgain) {
  ExpectStart(Queued(), View(std::string(kNight) + "lend: false\nserving: {cpu: 100%}\n", false),
              "the opening of the next window in which training may run", kNow + 10 * kHour);
}

TEST(Explain, SaysWhenTrainingsPartOfATimeRatioBegins) {
  ExpectStart(Queued(), View("ratio: {training: 10%, every: 7h}", false),
              "the beginning of training's part of the time ratio", (kNow / (7 * kHour) + 1) * 7 * kHour);
  ExpectStart(
      Queued(),
      View("ratio: {training: 0%, every: 10s}\n" + std::string(kNight).insert(kNight.find(", lend"), ", ratio: none"),
           false),
      "the opening of the next window in which training may run", kNow + 10 * kHour);
}

TEST(Explain, SaysWhatAJobThatStartsWaitsFor) {
  jobs::JobRecord job = Queued();
  job.state = jobs::State::kStarting;
  job.reason = "its model is being prepared";
  EXPECT_EQ(Explained(job, View("")).waits_for(), "its model is being prepared");
}

TEST(Explain, SaysThatServingNeedsTheCpusOfAJobThatRuns) {
  jobs::JobRecord job = Queued();
  job.state = jobs::State::kRunning;
  GovernorView view = View("");
  EXPECT_EQ(Explained(job, view).waits_for(), "");
  view.allowed_threads = 0;
  view.gate_reason = "a target is missed";
  EXPECT_EQ(Explained(job, view).waits_for(), "its turn on the CPU: serving needs all of it (a target is missed)");
}

TEST(Explain, SaysWhenAJobThatStandsStillInARatioGoesOn) {
  jobs::JobRecord job = Queued();
  job.state = jobs::State::kRunning;
  GovernorView view = View("ratio: {training: 70%, every: 10s}", false);
  view.allowed_threads = 0;
  wire::JobExplanation told = Explained(job, view);
  EXPECT_EQ(told.waits_for(), "its turn: training may not run now");
  EXPECT_THAT(told.would_start(), HasSubstr("part of the time ratio"));
  EXPECT_EQ(static_cast<int64_t>(told.earliest_ms()), kNow + 10'000);
}

}  // namespace
}  // namespace tandem::daemon
