#include "spec/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "base/strings.h"
#include "spec/settings_table.h"

namespace tandem::spec {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ErrorOf(const std::vector<std::string>& args) {
  absl::StatusOr<Settings> settings = LoadSettings(args, "/home/me");
  EXPECT_FALSE(settings.ok());
  return std::string(MessageOf(settings.status()));
}

std::string WriteConfig(std::string_view text) {
  std::string path = testing::TempDir() + "tandem_settings_test.yaml";
  EXPECT_TRUE(WriteFileAtomically(path, text).ok());
  return path;
}

TEST(Settings, HasDefaultsWithoutAnyArgument) {
  Settings settings = *LoadSettings({}, "/home/me");
  EXPECT_EQ(settings.data, "/home/me/.local/share/tandem");
  EXPECT_EQ(settings.http.address, "127.0.0.1:8000");
  EXPECT_EQ(settings.training.max_attempts, 3);
}

TEST(Settings, FlagsWinOverTheFileAndTheLastOneWins) {
  std::string path = WriteConfig(
      "data: /srv/t/\nhttp: {address: 0.0.0.0:80, io_threads: 3}\nlog: {level: debug}\n"
      "serving:\n  memory: 2GB\n  prepare_timeout: 5min\n");
  absl::StatusOr<Settings> settings =
      LoadSettings({"--http", "[::1]:0", "--config=" + path, "--log-level", "error", "--log-json",
                    "--log-level=warning", "--set", "training.max_jobs=2", "--set=http.io_threads=4"},
                   "");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->data, "/srv/t");
  EXPECT_EQ(settings->config, path);
  EXPECT_EQ(settings->http.address, "[::1]:0");
  EXPECT_EQ(settings->http.io_threads, 4);
  EXPECT_EQ(settings->log.level, "warning");
  EXPECT_TRUE(settings->log.json);
  EXPECT_EQ(settings->serving.memory_bytes, 2'000'000'000);
  EXPECT_DOUBLE_EQ(settings->serving.prepare_timeout_s, 300);
  EXPECT_EQ(settings->training.max_jobs, 2);
}

TEST(Settings, TakesTheShortFormOfHttp) {
  std::string path = WriteConfig("http: 127.0.0.1:9000\n");
  EXPECT_EQ(LoadSettings({"--config", path}, "/h")->http.address, "127.0.0.1:9000");
  EXPECT_EQ(LoadSettings({"--set", "http=localhost:1"}, "/h")->http.address, "localhost:1");
}

TEST(Settings, NamesWhatIsWrongInTheFileWithItsPlace) {
  std::string path = WriteConfig("http:\n  io_thread: 3\n");
  EXPECT_EQ(ErrorOf({"--config", path}),
            StrCat(path, ":2:3: unknown key 'io_thread' in 'http'; did you mean 'io_threads'?"));
  WriteConfig("log: {level: loud}");
  EXPECT_THAT(ErrorOf({"--config", path}), StartsWith(StrCat(path, ":1:14: log.level is 'loud'; it must be one of")));
  WriteConfig("serving: 3");
  EXPECT_THAT(ErrorOf({"--config", path}), HasSubstr("serving is '3'; it must be a map"));
  WriteConfig("config: x");
  EXPECT_THAT(ErrorOf({"--config", path}), HasSubstr("only be given on the command line"));
  WriteConfig("- a");
  EXPECT_THAT(ErrorOf({"--config", path}), HasSubstr("a map of keys"));
  EXPECT_THAT(ErrorOf({"--config", "/nowhere/x.yaml"}), HasSubstr("/nowhere/x.yaml"));
}

TEST(Settings, NamesWhatIsWrongOnTheCommandLine) {
  EXPECT_EQ(ErrorOf({"--htp", "x"}), "unknown option '--htp'; did you mean '--http'?");
  EXPECT_EQ(ErrorOf({"--colour", "x"}), "unknown option '--colour'; --help lists all");
  EXPECT_THAT(ErrorOf({"--http"}), HasSubstr("--http needs a value: HOST:PORT"));
  EXPECT_THAT(ErrorOf({"serve"}), HasSubstr("unexpected argument 'serve'"));
  for (std::string bad : {"8000", ":80", "a:b", "a:65536", "a:-1", "::1:80", "a b:1", "", "[]:1"}) {
    EXPECT_THAT(ErrorOf({"--http", bad}), StartsWith("--http: http.address is ")) << bad;
  }
  EXPECT_THAT(ErrorOf({"--set", "training.max_job=2"}), HasSubstr("did you mean 'max_jobs'?"));
  EXPECT_THAT(ErrorOf({"--set", "training.max_jobs=0"}), HasSubstr("from 1 to 1024"));
  EXPECT_THAT(ErrorOf({"--data", ""}), HasSubstr("data is ''"));
  EXPECT_THAT(MessageOf(LoadSettings({}, "").status()), HasSubstr("HOME is not set"));
}

TEST(Settings, TheSidesHaveNoFoldersOfTheirOwnUntilTheyAreGiven) {
  EXPECT_EQ(LoadSettings({}, "/h")->serving.folder, "");
  EXPECT_EQ(LoadSettings({}, "/h")->training.folder, "");
  Settings settings =
      *LoadSettings({"--set", "serving.folder=~/models/", "--set", "training.folder=/mnt/../big"}, "/h");
  EXPECT_EQ(settings.serving.folder, "/h/models");
  EXPECT_EQ(settings.training.folder, "/big");
}

TEST(Settings, ReadsTheSharingDocumentWithItsPlacesInTheFile) {
  std::string path = WriteConfig("http: 127.0.0.1:0\nsharing:\n  policy: windows\n  serving:\n    cpu: 70%\n");
  Settings settings = *LoadSettings({"--config", path}, "/h");
  EXPECT_TRUE(settings.sharing_given);
  EXPECT_EQ(settings.policy, "windows");
  EXPECT_EQ(settings.sharing.split.training.cpu, 0.3);
  EXPECT_FALSE(LoadSettings({}, "/h")->sharing_given);
  EXPECT_EQ(LoadSettings({}, "/h")->policy, "latency_first");
  WriteConfig("sharing:\n  serving:\n    cpu: 70\n");
  EXPECT_THAT(ErrorOf({"--config", path}), StartsWith(StrCat(path, ":3:10: sharing.serving.cpu is '70'")));
  WriteConfig("sharing:\n  windows:\n  - {name: a, training: {cpu: 1%}}\n  - {name: b, training: {cpu: 2%}}\n");
  EXPECT_THAT(ErrorOf({"--config", path}), HasSubstr("windows 'a' (line 3) and 'b' (line 4) are both open"));
  WriteConfig("sharing:\n");
  EXPECT_THAT(ErrorOf({"--config", path}), HasSubstr("sharing is empty; it must be a map"));
}

TEST(Settings, ChangesSingleKeysOfTheSharingDocumentOnTheCommandLine) {
  std::string path = WriteConfig("sharing: {policy: windows, windows: [{name: a, to: '06:00'}], serving: {cpu: 70%}}");
  Settings settings =
      *LoadSettings({"--set", "sharing.windows.a.to=07:00", "--config", path, "--set=sharing.serving.cpu=60%"}, "/h");
  EXPECT_EQ(settings.sharing.windows.at(0).when.to, "07:00");
  EXPECT_EQ(settings.sharing.split.training.cpu, 0.4);
  EXPECT_EQ(LoadSettings({"--set", "sharing.lend=false", "--set", "sharing.training.cpu=1%"}, "/h")->sharing.split.lend,
            false);
  EXPECT_THAT(ErrorOf({"--set", "sharing.len=false"}), HasSubstr("did you mean 'lend'?"));
  EXPECT_THAT(ErrorOf({"--set", "sharing.training.disk_write=5"}), HasSubstr("1kB/s or more"));
}

TEST(Settings, TakesThePolicyInEitherPlaceButNotTwoOfThem) {
  std::string path = WriteConfig("policy: static_split\nsharing: {lend: true}");
  Settings settings = *LoadSettings({"--config", path}, "/h");
  EXPECT_EQ(settings.sharing.policy, "static_split");
  EXPECT_TRUE(settings.sharing_given);
  EXPECT_EQ(LoadSettings({"--set", "policy=windows"}, "/h")->sharing.policy, "windows");
  WriteConfig("policy: windows\nsharing: {policy: windows}");
  EXPECT_EQ(LoadSettings({"--config", path}, "/h")->policy, "windows");
  WriteConfig("policy: static_split\nsharing: {policy: windows}");
  EXPECT_EQ(ErrorOf({"--config", path}),
            StrCat(path, ":1:9: policy is 'static_split', but sharing.policy is 'windows' (", path,
                   ":2:19); keep one of them"));
  for (std::string key : {"policy", "sharing.policy"}) {  // the command line wins over both
    Settings last = *LoadSettings({"--config", path, "--set", key + "=latency_first"}, "/h");
    EXPECT_EQ(last.policy, "latency_first") << key;
    EXPECT_EQ(last.sharing.policy, "latency_first") << key;
  }
  EXPECT_THAT(ErrorOf({"--set", "policy=static-split"}), HasSubstr("did you mean 'static_split'?"));
}

TEST(Settings, ReadsTheIsolationThatIsWanted) {
  Settings settings = *LoadSettings(
      {"--set", "isolation.rung=cgroup-weight", "--set", "isolation.budget_ms=50", "--set", "serving.slo_ms=2.5"},
      "/h");
  EXPECT_EQ(settings.isolation.rung, "cgroup-weight");
  EXPECT_EQ(settings.isolation.budget_ms, 50);
  EXPECT_EQ(settings.serving.slo_ms, 2.5);
  EXPECT_EQ(LoadSettings({}, "/h")->isolation.rung, "auto");
  EXPECT_THAT(ErrorOf({"--set", "isolation.rung=real-time"}), HasSubstr("did you mean 'realtime'?"));
  EXPECT_THAT(ErrorOf({"--set", "isolation.budget_ms=0"}), HasSubstr("a number from 1 to 60000"));
  EXPECT_THAT(ErrorOf({"--set", "serving.slo_ms=-1"}), HasSubstr("serving.slo_ms is '-1'"));
}

TEST(Settings, ReadsWhereTracesGo) {
  EXPECT_EQ(LoadSettings({}, "/h")->telemetry.otlp_endpoint, "");
  for (std::string url : {"http://127.0.0.1:4318", "http://[::1]:4318/", "http://collector", "http://c.local:80/otlp/",
                          "http://[::1]", ""}) {
    absl::StatusOr<Settings> settings = LoadSettings({"--set=telemetry.otlp_endpoint=" + url}, "/h");
    ASSERT_TRUE(settings.ok()) << settings.status();
    EXPECT_EQ(settings->telemetry.otlp_endpoint, url);
  }
  for (std::string url :
       {"https://collector:4318", "collector:4318", "127.0.0.1:4318", "http://", "http://:4318", "http://c:0",
        "http://c:65536", "http://c:x", "http://me@c:1", "http://c:1/?a", "grpc://c:1"}) {
    EXPECT_THAT(ErrorOf({"--set=telemetry.otlp_endpoint=" + url}), HasSubstr("a URL like http://")) << url;
  }
  EXPECT_EQ(LoadSettings({"--set", "telemetry.trace_ratio=0.25"}, "/h")->telemetry.trace_ratio, 0.25);
  EXPECT_THAT(ErrorOf({"--set", "telemetry.trace_ratio=2"}), HasSubstr("a number from 0 to 1"));
}

TEST(Settings, EveryDefaultIsItselfValid) {
  for (const Setting& setting : SettingsTable()) {
    if (setting.default_text.empty()) continue;
    Settings settings;
    EXPECT_TRUE(setting.read(Node::Scalar(setting.default_text), settings).ok()) << setting.key;
  }
}

TEST(Settings, DocumentsEachSettingOnce) {
  std::string page = SettingsMarkdown(), help = SettingsHelp();
  for (const Setting& setting : SettingsTable()) {
    EXPECT_THAT(page, HasSubstr(StrCat("| `", setting.key, "` |")));
    EXPECT_THAT(help, HasSubstr(std::string(setting.flag.empty() ? setting.key : setting.flag)));
  }
  EXPECT_THAT(page, HasSubstr("| `stop_timeout` |  | a time from"));
  EXPECT_THAT(help, HasSubstr("\nUsage: tandem serve [OPTIONS]\n"));
  EXPECT_THAT(help, HasSubstr("\n  --log-json                  One JSON object a line. [false]\n"));
  EXPECT_THAT(help, HasSubstr("\n  --model-repository VALUE    Folder of models"));
  EXPECT_THAT(help, HasSubstr("Largest body of one inference request. [256MB]\n"));
  EXPECT_THAT(page, HasSubstr("| a size from 1KiB to 1024TiB, like 512MB or 2GiB | `256MB` |"));
  EXPECT_THAT(page, HasSubstr("| `64MiB` | Memory for answers"));
}

}  // namespace
}  // namespace tandem::spec
