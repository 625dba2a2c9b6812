#include "api/v2/parameters.h"

#include <gmock/gmock.h>

#include "api/v2/log_switches.h"
#include "api/v2/model_load.h"

namespace tandem::api::v2 {
namespace {

using ::testing::HasSubstr;

// Literals of the variant's own types.
ParameterValue Int(int64_t n) { return n; }
ParameterValue Text(std::string_view text) { return text; }

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(RequestParameters, SetWhatTheyName) {
  InferCall call;
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, ParameterValue>>{{"sequence_id", UINT64_MAX},
                                                           {"sequence_start", true},
                                                           {"sequence_end", true},
                                                           {"priority", uint64_t{3}},
                                                           {"timeout", Int(5000)},
                                                           {"binary_data_output", true},
                                                           {"my own", 1.5},
                                                           {"triton_enable_empty_final_response", true}}) {
    EXPECT_TRUE(SetRequestParameter(key, value, &call).ok()) << key;
  }
  EXPECT_EQ(call.request.sequence.id, UINT64_MAX);
  EXPECT_TRUE(call.request.sequence.start && call.request.sequence.end && call.binary_output);
  EXPECT_EQ(call.request.priority, 3);
  EXPECT_EQ(call.timeout_us, 5000);
  EXPECT_TRUE(SetRequestParameter("sequence_id", Text("abc"), &call).ok());
  EXPECT_EQ(call.request.sequence.text_id, "abc");
  EXPECT_EQ(call.request.sequence.id, 0);
  call.Clear();
  EXPECT_TRUE(call.request.sequence.text_id.empty());
  EXPECT_FALSE(call.request.sequence.start);
  EXPECT_EQ(call.request.priority, 0);
}

TEST(RequestParameters, AreRefusedByNameWhenTheyAreOfTheWrongType) {
  for (const auto& [key, value] : std::vector<std::pair<const char*, ParameterValue>>{{"sequence_id", true},
                                                                                      {"sequence_id", Int(-1)},
                                                                                      {"sequence_id", 2.0},
                                                                                      {"sequence_start", Int(1)},
                                                                                      {"sequence_end", Text("true")},
                                                                                      {"priority", Int(-1)},
                                                                                      {"priority", Int(5'000'000'000)},
                                                                                      {"priority", Text("1")},
                                                                                      {"timeout", 1.5},
                                                                                      {"timeout", Int(-7)},
                                                                                      {"timeout", UINT64_MAX},
                                                                                      {"binary_data_output", Int(1)},
                                                                                      {"triton_whatever", Int(1)}}) {
    InferCall call;
    absl::Status status = SetRequestParameter(key, value, &call);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key << " " << Describe(value);
    EXPECT_THAT(Message(status), HasSubstr(key));
  }
}

TEST(InputParameters, NeedARegionToBeWhole) {
  InputParameters parameters;
  EXPECT_TRUE(parameters.Set("shared_memory_offset", Int(8)).ok());
  EXPECT_FALSE(parameters.shared.Check().ok());
  EXPECT_TRUE(parameters.Set("shared_memory_region", Text("r")).ok());
  EXPECT_FALSE(parameters.shared.Check().ok()) << "without its size";
  EXPECT_TRUE(parameters.Set("shared_memory_byte_size", uint64_t{16}).ok());
  EXPECT_TRUE(parameters.shared.Check().ok());
  EXPECT_FALSE(parameters.Set("shared_memory_region", Int(1)).ok());
  EXPECT_FALSE(parameters.Set("shared_memory_offset", Int(-1)).ok());
  EXPECT_FALSE(parameters.Set("shared_memory_byte_size", UINT64_MAX).ok());
  EXPECT_FALSE(parameters.Set("binary_data_size", Text("4")).ok());
  EXPECT_TRUE(parameters.Set("anything", Text("4")).ok());
}

TEST(OutputParameters, AreRefusedWhenTheyContradictEachOther) {
  WantedOutput output;
  OutputParameters shared;
  EXPECT_TRUE(shared.Set("shared_memory_region", Text("r")).ok());
  EXPECT_TRUE(shared.Set("shared_memory_byte_size", Int(4)).ok());
  EXPECT_TRUE(shared.ApplyTo(true, &output).ok()) << "the request's default is no wish of this output";
  EXPECT_EQ(output.region, "r");
  OutputParameters with_classes = shared, with_binary = shared;
  EXPECT_TRUE(with_classes.Set("classification", Int(2)).ok());
  EXPECT_THAT(Message(with_classes.ApplyTo(false, &output)), HasSubstr("'classification'"));
  EXPECT_TRUE(with_binary.Set("binary_data", true).ok());
  EXPECT_THAT(Message(with_binary.ApplyTo(false, &output)), HasSubstr("'binary_data'"));
  OutputParameters other;
  EXPECT_FALSE(other.Set("classification", Int(-1)).ok());
  EXPECT_FALSE(other.Set("classification", 2.5).ok());
  EXPECT_FALSE(other.Set("binary_data", Int(0)).ok());
  EXPECT_TRUE(other.Set("binary_data", false).ok());
  EXPECT_TRUE(other.ApplyTo(true, &output).ok());
  EXPECT_FALSE(output.binary);
}

TEST(LogSwitches, MapOntoOneLevelAndBack) {
  for (LogLevel level : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    EXPECT_EQ(*LevelOf(SwitchesOf(level)), level);
  }
  LogSwitches switches = SwitchesOf(LogLevel::kInfo);
  EXPECT_TRUE(SetLogSwitch("log_info", false, &switches).ok());
  EXPECT_EQ(*LevelOf(switches), LogLevel::kWarning);
  EXPECT_TRUE(SetLogSwitch("log_format", Text("default"), &switches).ok());
  EXPECT_TRUE(SetLogSwitch("log_file", Text(""), &switches).ok());
}

TEST(LogSwitches, AreRefusedWhenUnknownOrContradictory) {
  LogSwitches switches;
  EXPECT_THAT(Message(SetLogSwitch("log_loud", true, &switches)), HasSubstr("'log_loud' is unknown"));
  EXPECT_FALSE(SetLogSwitch("log_info", Int(1), &switches).ok());
  EXPECT_FALSE(SetLogSwitch("log_verbose_level", Int(-1), &switches).ok());
  EXPECT_FALSE(SetLogSwitch("log_format", Text("ISO8601"), &switches).ok());
  EXPECT_FALSE(SetLogSwitch("log_file", Text("/etc/passwd"), &switches).ok());
  EXPECT_FALSE(LevelOf({.error = false}).ok());
  EXPECT_FALSE(LevelOf({.info = true, .warning = false}).ok());
  EXPECT_FALSE(LevelOf({.info = false, .verbose = 1}).ok());
}

TEST(LoadParameters, TakeAConfigurationAndFiles) {
  LoadParameters parameters;
  EXPECT_TRUE(SetLoadParameter("config", Text("{}"), true, &parameters).ok());
  EXPECT_TRUE(SetLoadParameter("file:1/model.onnx", Text("aGVsbG8="), true, &parameters).ok());
  EXPECT_TRUE(SetLoadParameter("file:12/sub/x.bin", Text("raw"), false, &parameters).ok());
  EXPECT_EQ(*parameters.config, "{}");
  EXPECT_EQ(parameters.files["1/model.onnx"], "hello");
  EXPECT_EQ(parameters.files["12/sub/x.bin"], "raw");
}

TEST(LoadParameters, RefuseNamesThatLeaveTheFolderAndWrongValues) {
  LoadParameters parameters;
  for (const char* key : {"file:", "file:1", "file:1/", "file:/x", "file:x/model.onnx", "file:1/../../etc",
                          "file:1/./x", "file:1//x", "file:-1/x", "file:../x", "files", "unload_dependents", ""}) {
    EXPECT_EQ(SetLoadParameter(key, Text("aGVsbG8="), true, &parameters).code(), absl::StatusCode::kInvalidArgument)
        << key;
  }
  EXPECT_FALSE(SetLoadParameter("config", Int(1), true, &parameters).ok());
  EXPECT_FALSE(SetLoadParameter("file:1/x", Text("a*b"), true, &parameters).ok());
  EXPECT_FALSE(SetLoadParameter("file:1/x", Text(""), true, &parameters).ok());
  EXPECT_FALSE(SetLoadParameter("file:1/x", true, true, &parameters).ok());
  EXPECT_TRUE(CheckUnloadParameter("unload_dependents", true).ok());
  EXPECT_FALSE(CheckUnloadParameter("unload_dependents", Text("true")).ok());
  EXPECT_FALSE(CheckUnloadParameter("force", true).ok());
}

}  // namespace
}  // namespace tandem::api::v2
