// Registered models as text for people, and the commands that change what serves.
#include "tandem/model_text.h"

#include <gmock/gmock.h>

#include "tandem/serving_commands.h"

namespace tandem::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const Style kPlain(false);
constexpr double kMinute = 60'000, kHour = 60 * kMinute;
constexpr double kNow = 1'795'298'400'000;

void AddVersion(wire::Model& model, std::string_view alias, double accuracy) {
  wire::ModelVersion& version = *model.add_versions();
  version.set_model(model.name());
  version.set_version(model.versions_size());
  version.set_state("READY");
  version.set_bytes(1'200'000);
  version.set_source(StrCat("job ", version.version()));
  version.set_created_ms(kNow - 2 * kHour);
  if (!alias.empty()) version.add_aliases(std::string(alias));
  (*version.mutable_metrics())["accuracy"] = accuracy;
}

wire::Model Fashion() {
  wire::Model model;
  model.set_name("fashion");
  AddVersion(model, "champion", 0.91);
  AddVersion(model, "", 0.93);
  AddVersion(model, "stable", 0.9);
  return model;
}

void AddSplit(wire::Model& model) {
  wire::TrafficSplit& split = *model.mutable_split();
  split.set_canary(2);
  split.set_canary_percent(10);
  split.set_canary_since_ms(kNow - 5 * kMinute);
  wire::CanaryFigures& canary = *split.mutable_canary_now();
  canary.mutable_champion()->set_version(1);
  canary.mutable_champion()->set_requests(9012);
  canary.mutable_champion()->set_p99_ms(1.2);
  canary.mutable_canary()->set_version(2);
  canary.mutable_canary()->set_requests(1000);
  canary.mutable_canary()->set_failures(3);
  canary.mutable_canary()->set_p99_ms(1.31);
  split.set_shadow(3);
  split.set_shadow_percent(5);
  split.set_shadow_since_ms(kNow - 2 * kHour);
  wire::ShadowFigures& shadow = *split.mutable_shadow_now();
  shadow.set_equal(498);
  shadow.set_different(2);
  shadow.set_dropped(1);
  shadow.set_rows(500);
  shadow.set_same_class(499);
  shadow.set_max_absolute(3e-5);
  shadow.set_max_relative(0.02);
}

TEST(ModelText, ShowsVersionsWithWhatTheyAreServedAs) {
  wire::Model model = Fashion();
  AddSplit(model);
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr(R"(fashion
VERSION  SERVED AS          STATE  METRICS          SIZE  SOURCE  CREATED
      1  champion           READY  accuracy 0.91  1.2 MB  job 1   2 h ago
      2  canary 10%         READY  accuracy 0.93  1.2 MB  job 2   2 h ago
      3  stable, shadow 5%  READY  accuracy 0.9   1.2 MB  job 3   2 h ago
)"));
}

TEST(ModelText, SaysBelowTheTableWhyAVersionIsNotServed) {
  wire::Model model = Fashion();
  model.mutable_versions(1)->set_state("FAILED");
  model.mutable_versions(1)->set_reason("engine 'openvino': device 'QPU' is not there");
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr(R"(
      2             FAILED  accuracy 0.93  1.2 MB  job 2   2 h ago
      3  stable     READY   accuracy 0.9   1.2 MB  job 3   2 h ago
version 2: engine 'openvino': device 'QPU' is not there
)"));
}

TEST(ModelText, ShowsBothSidesOfACanary) {
  wire::Model model = Fashion();
  AddSplit(model);
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr(R"(
canary
  version 2 gets 10% of the requests that name no version; it began 5 min ago
  VERSION     REQUESTS  FAILURES      P99
  champion 1     9,012  0 (0.0%)   1.2 ms
  canary 2       1,000  3 (0.3%)  1.31 ms
)"));
}

TEST(ModelText, SaysWhyACanaryGetsNoRequests) {
  wire::Model model = Fashion();
  AddSplit(model);
  model.mutable_split()->mutable_canary_now()->set_problem("version 2 is FAILED");
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr("\n  version 2 is FAILED\n"));
  model.mutable_split()->clear_canary_now();
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr("\n  not in service yet\n"));
}

TEST(ModelText, CountsWhatAShadowAnswered) {
  wire::Model model = Fashion();
  AddSplit(model);
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr(R"(
shadow
  version 3 gets copies of 5% of the requests; it began 2 h ago
  500 answers compared, 2 different (0.4%); 0 failed, 1 not run
  same class in 99.8% of 500 rows
  largest difference 3e-05, relative 0.02
)"));
}

TEST(ModelText, LeavesOutWhatThereIsNot) {
  std::string text = ModelText(Fashion(), kNow, kPlain);
  for (const char* heading : {"configuration", "canary", "shadow", "approvals", "engines", "history", "input"}) {
    EXPECT_THAT(text, Not(HasSubstr(heading)));
  }
}

TEST(ModelText, ShowsTheConfigurationAndWhatWasApproved) {
  wire::Model model = Fashion();
  model.set_config("max_batch_size: 8\ncanary:\n  min_requests: 50\n");
  model.mutable_versions(1)->set_approval("approved");
  model.mutable_versions(1)->set_approval_who("ann");
  model.mutable_versions(1)->set_approval_comment("looks right");
  model.mutable_versions(1)->set_approval_ms(kNow - kHour);
  model.mutable_versions(2)->set_approval("pending");
  model.mutable_versions(2)->set_approval_who("job 3");
  model.mutable_versions(2)->set_approval_ms(kNow - kMinute);
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr(R"(
configuration
  max_batch_size: 8
  canary:
    min_requests: 50

approvals
  version 2  approved  1 h ago by ann: looks right
  version 3  pending  1 min ago by job 3
             tandem models approve fashion 3 --comment '...'
)"));
}

TEST(ModelText, ShowsWhatWasMeasuredOnEachEngine) {
  wire::Model model = Fashion();
  model.mutable_versions(0)->set_engine_report(
      R"({"chosen":"openvino","engines":[
          {"engine":"openvino","ok":true,"max_difference":1e-6,"latency_ms":{"1":0.4,"8":1.9}},
          {"engine":"onnxruntime","ok":true,"max_difference":0,"latency_ms":{"1":0.5}},
          {"engine":"torch","ok":false,"error":"no such operator"}]})");
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr(R"(
engines measured
  version 1
  ENGINE       OUTPUTS           BATCH 1  BATCH 8
  openvino     within 1e-06       0.4 ms   1.9 ms  chosen
  onnxruntime  within 0           0.5 ms        -
  torch        no such operator        -        -
)"));
}

TEST(ModelText, AReportThatCannotBeReadIsLeftOut) {
  for (const char* report : {"not json", "{}", "[]", R"({"engines":"none"})", R"({"engines":[1,null]})"}) {
    wire::Model model = Fashion();
    model.mutable_versions(0)->set_engine_report(report);
    EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr("fashion")) << report;
  }
}

TEST(ModelText, TheHistoryIsOneListByTime) {
  wire::Model model = Fashion();
  wire::AliasMove& move = *model.add_history();
  move.set_alias("champion");
  move.set_from(1);
  move.set_to(2);
  move.set_who("ann");
  move.set_when_ms(kNow - 2 * kMinute);
  move.set_why("canary promoted");
  auto add = [&](const char* kind, int version, double ago_ms, const char* text, const char* detail) {
    wire::ModelEvent& event = *model.add_events();
    event.set_kind(kind);
    event.set_version(version);
    event.set_when_ms(kNow - ago_ms);
    event.set_who("tandem");
    event.set_text(text);
    event.set_detail(detail);
  };
  add("canary", 3, kMinute, "rolled back: it fails", "");
  add("config", 0, 3 * kMinute, "", "max_batch_size: 8\ncanary:\n  min_requests: 50\n  max_p99_ratio: 2\n");
  add("config", 0, 4 * kMinute, "", "");
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr(R"(
history
  WHEN       WHAT                  WHO     WHY
  1 min ago  canary 3              tandem  rolled back: it fails
  2 min ago  champion from 1 to 2  ann     canary promoted
  3 min ago  config                tandem  max_batch_size: 8; canary: min_requests: 50, max_p99_ratio:…
  4 min ago  config                tandem  all defaults
)"));
}

TEST(ModelText, ALongHistoryIsCut) {
  wire::Model model = Fashion();
  for (int i = 0; i < 25; ++i) model.add_events()->set_kind("config");
  EXPECT_THAT(ModelText(model, kNow, kPlain), HasSubstr("\n  5 earlier ones; --json has all\n"));
}

// --- commands: what is refused before the server is asked ---

absl::Status Try(const std::vector<std::string>& arguments) {
  CommandLine line;
  Session session;
  session.url = "http://127.0.0.1:1";
  AddServingCommands(line.root(), session);
  absl::StatusOr<Action> action = line.Parse(arguments);
  if (!action.ok()) return action.status();
  return (*action)().status();
}

TEST(ServingCommands, SayWhatIsMissing) {
  EXPECT_THAT(MessageOf(Try({"canary", "m", "3"})), HasSubstr("give --percent P, or --stop to end the canary"));
  EXPECT_THAT(MessageOf(Try({"shadow", "m", "3", "--percent", "101"})), HasSubstr("over 0, up to 100"));
  EXPECT_THAT(MessageOf(Try({"canary", "m", "--stop", "--percent", "5"})), HasSubstr("not both"));
  EXPECT_THAT(MessageOf(Try({"canary", "m/2", "3", "--percent", "5"})), HasSubstr("names a version"));
  EXPECT_THAT(MessageOf(Try({"canary", "m", "-3", "--percent", "5"})), HasSubstr("3"));
  EXPECT_THAT(MessageOf(Try({"approve", "m", "3"})), HasSubstr("--comment is missing"));
  EXPECT_THAT(MessageOf(Try({"reject", "m", "--comment", "no"})), HasSubstr("VERSION is missing"));
  EXPECT_THAT(MessageOf(Try({"configure", "m", "--set", "threads"})), HasSubstr("write key=value"));
  EXPECT_THAT(MessageOf(Try({"configure", "m", "--show", "--set", "a=b"})), HasSubstr("changes nothing"));
  EXPECT_THAT(MessageOf(Try({"configure", "m", "--file", "/no/such/file"})), HasSubstr("/no/such/file"));
}

}  // namespace
}  // namespace tandem::cli
