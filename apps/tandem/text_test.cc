// Everything that turns values into text or text into values.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "client/transport.h"
#include "nlohmann/json.hpp"
#include "spec/train_spec.h"
#include "tandem/exit_code.h"
#include "tandem/external_data.h"
#include "tandem/job_text.h"
#include "tandem/model_check.h"
#include "tandem/predict_options.h"
#include "tandem/prediction.h"
#include "tandem/progress_printer.h"
#include "tandem/resize.h"
#include "tandem/spec_paths.h"
#include "tandem/temporary_folder.h"
#include "tandem/terminal.h"
#include "tandem/top_frame.h"

namespace tandem::cli {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const Style kPlain(false);
const Style kColour(true);

TEST(Number, HasNoExponentForUsualSizes) {
  EXPECT_EQ(Number(0.8796585), "0.8797");
  EXPECT_EQ(Number(42782.97), "42783");
  EXPECT_EQ(Number(12.3456), "12.35");
}

TEST(DisplayWidth, CountsColumnsNotBytes) {
  EXPECT_EQ(DisplayWidth("plain"), 5);
  EXPECT_EQ(DisplayWidth("é"), 1);
  EXPECT_EQ(DisplayWidth("模型"), 4);
  EXPECT_EQ(DisplayWidth(kColour.Red("ab")), 2);
  EXPECT_EQ(DisplayWidth("\xff\xfe"), 2);
  EXPECT_EQ(DisplayWidth("\033["), 0);
}

TEST(Truncated, CutsBetweenCharacters) {
  EXPECT_EQ(Truncated("short", 10), "short");
  EXPECT_EQ(Truncated("abcdef", 4), "abc…");
  EXPECT_EQ(Truncated("模型模型", 4), "模…");
  EXPECT_EQ(Truncated("abc", 0), "");
  EXPECT_EQ(Truncated(kColour.Red("abcd"), 4), kColour.Red("abcd"));
  EXPECT_EQ(Truncated(kColour.Red("abcdef") + "gh", 4), "\033[31mabc…\033[0m") << "a cut colour is ended";
}

TEST(Table, AlignsWideCharactersAndColours) {
  Table table({"NAME", ">N"});
  table.AddRow({"模型", "7"});
  table.AddRow({kColour.Green("ab"), "123"});
  EXPECT_EQ(table.Render(kPlain), "NAME    N\n模型    7\n\033[32mab\033[0m    123\n");
}

TEST(HumanText, IsShort) {
  EXPECT_EQ(Thousands(12345.6), "12,346");
  EXPECT_EQ(Thousands(999), "999");
  EXPECT_EQ(Thousands(-1234567), "-1,234,567");
  EXPECT_EQ(Percent(0.9123), "91.2%");
  EXPECT_EQ(Percent(-0.0001), "0.0%");
  EXPECT_EQ(Ago(0, 5000), "-");
  EXPECT_EQ(Ago(1000, 61'000 + 1000), "1 min ago");
  EXPECT_EQ(Ago(5000, 1000), "0 s ago");
}

TEST(ExitCode, TellsTheKindsOfFailureApart) {
  EXPECT_EQ(ExitOf(absl::OkStatus()), Exit::kOk);
  EXPECT_EQ(ExitOf(NotFound("x")), Exit::kNotFound);
  EXPECT_EQ(ExitOf(FailedPrecondition("x")), Exit::kRefused);
  EXPECT_EQ(ExitOf(PermissionDenied("x")), Exit::kRefused);
  EXPECT_EQ(ExitOf(InvalidArgument("x")), Exit::kFailed);
  EXPECT_EQ(ExitOf(Usage("x")), Exit::kUsage);
  EXPECT_EQ(ExitOf(client::Unreachable(Unavailable("x"))), Exit::kUnreachable);
  EXPECT_EQ(ExitOf(client::Unreachable(DeadlineExceeded("x"))), Exit::kUnreachable);
}

wire::Job RunningJob() {
  wire::Job job;
  job.set_job(3);
  job.set_name("fashion");
  job.set_state("running");
  job.set_pid(77);
  wire::Progress& progress = *job.mutable_progress();
  progress.set_epoch(2);
  progress.set_epochs(10);
  progress.set_step(234);
  progress.set_steps(520);
  progress.set_loss(0.41239);
  progress.set_accuracy(0.912);
  progress.set_images_per_s(12340);
  progress.set_eta_s(12);
  progress.set_phase("training");
  return job;
}

TEST(ProgressLine, ShowsAllThatIsKnown) {
  EXPECT_EQ(ProgressLine(RunningJob(), 200, kPlain),
            "epoch 3/10  ━━━━━━━━━━━─────────────  45%  step 234/520  loss 0.4124  accuracy 91.2%  12,340 images/s  "
            "ETA 12.0 s");
}

TEST(ProgressLine, FitsNarrowTerminals) {
  for (int columns : {10, 20, 40, 60, 80}) {
    EXPECT_LE(DisplayWidth(ProgressLine(RunningJob(), columns, kColour)), columns) << columns;
  }
}

TEST(ProgressLine, LeavesOutWhatIsNotKnown) {
  wire::Job job;
  job.set_state("queued");
  EXPECT_EQ(ProgressLine(job, 80, kPlain), "queued");
  job.set_state("running");
  job.mutable_progress()->set_phase("loading");
  EXPECT_EQ(ProgressLine(job, 80, kPlain), "loading");
  job.mutable_progress()->set_phase("training");
  job.mutable_progress()->set_step(5);
  job.mutable_progress()->set_accuracy(-1);
  job.mutable_progress()->set_eta_s(-1);
  EXPECT_EQ(ProgressLine(job, 80, kPlain), "running  step 5  loss 0.0000");
}

TEST(ProgressLine, StaysShortWhenTheLossDivergesAndNoTimeIsLeft) {
  wire::Job job = RunningJob();
  job.mutable_progress()->set_loss(96641135015.0659);
  job.mutable_progress()->set_eta_s(0);
  std::string line = ProgressLine(job, 200, kPlain);
  EXPECT_THAT(line, HasSubstr("loss 9.66e+10  accuracy"));
  EXPECT_THAT(line, Not(HasSubstr("ETA")));
}

TEST(JobTable, HasADashForWhatIsNotKnown) {
  wire::Job job;
  job.set_job(3);
  job.set_name("fashion");
  job.set_state("running");
  job.set_pid(77);
  Table table = JobTable();
  AddJobRow(job, 0, kPlain, &table);
  EXPECT_THAT(table.Render(kPlain),
              HasSubstr("  3  fashion  running     -     -         -         -    -  -      -\n"));
}

TEST(Outcome, SaysModelMetricsAndDeployment) {
  wire::Job job = RunningJob();
  job.set_state("succeeded");
  job.set_model("fashion");
  job.set_version(2);
  (*job.mutable_metrics())["loss"] = 0.25;
  (*job.mutable_metrics())["accuracy"] = 0.9;
  job.set_deploy("kept");
  job.set_deploy_reason("0.9 is not better than 0.91");
  EXPECT_EQ(Outcome(job, kPlain),
            "job 3 succeeded: fashion/2, accuracy 0.9, loss 0.25\ndeploy kept: 0.9 is not better than 0.91");
  job.set_state("failed");
  job.set_reason("the loss became NaN at step 12");
  EXPECT_EQ(Outcome(job, kPlain), "job 3 failed: the loss became NaN at step 12");
}

TEST(ProgressPrinter, PrintsALineNowAndThenOffATerminal) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  ProgressPrinter printer(fds[1], kPlain);
  wire::Job job = RunningJob();
  for (int second = 0; second < 12; ++second) printer.Update(job, second);
  job.mutable_progress()->set_epoch(3);
  printer.Update(job, 12);
  printer.Finish();
  close(fds[1]);
  std::string text(4096, '\0');
  text.resize(read(fds[0], text.data(), text.size()));
  close(fds[0]);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_THAT(text, Not(HasSubstr("\r")));
}

TEST(ProgressPrinter, TellsNothingTwiceAndLeavesTheEndToTheCaller) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  ProgressPrinter printer(fds[1], kPlain);
  wire::Job job;
  job.set_state("running");
  job.mutable_progress()->set_phase("loading");
  printer.Update(job, 0);
  job.mutable_progress()->set_epoch(1);  // something changed, but not what the line says
  printer.Update(job, 1);
  job.set_state("failed");
  job.set_reason("the loss became NaN");
  printer.Update(job, 2);
  printer.Finish();
  close(fds[1]);
  std::string text(4096, '\0');
  text.resize(read(fds[0], text.data(), text.size()));
  close(fds[0]);
  EXPECT_EQ(text, "loading\n");
}

TEST(TopFrame, FitsTheScreen) {
  wire::Status status;
  status.set_http("127.0.0.1:8000");
  status.mutable_cpu()->set_serving(0.25);
  status.mutable_cpu()->set_training(0.7);
  status.mutable_cpu()->set_idle(0.05);
  for (int i = 0; i < 50; ++i) {
    wire::ServedModel& model = *status.add_served();
    model.set_model("fashion");
    model.set_version(i);
    model.mutable_latency()->set_requests(10);
    model.mutable_latency()->set_p99_ms(1.5);
  }
  *status.add_active_jobs() = RunningJob();
  std::string frame = TopFrame(status, 60, 20, kPlain);
  EXPECT_EQ(std::count(frame.begin(), frame.end(), '\n'), 20);
  EXPECT_THAT(frame, HasSubstr("training 70.0%"));
  EXPECT_THAT(TopFrame(status, 100, 1000, kPlain), HasSubstr("job 3 fashion running  epoch 3/10"));
  std::string narrow = TopFrame(status, 30, 1000, kColour);
  for (size_t at = 0, end; (end = narrow.find('\n', at)) != std::string::npos; at = end + 1) {
    EXPECT_LE(DisplayWidth(narrow.substr(at, end - at)), 30) << narrow.substr(at, end - at);
  }
}

TEST(TopFrame, HasNoTimesOfAModelThatNobodyAskedLately) {
  wire::Status status;
  wire::ServedModel& model = *status.add_served();
  model.set_model("fashion");
  model.set_version(1);
  model.set_state("READY");
  model.mutable_latency()->set_requests(2);
  EXPECT_THAT(TopFrame(status, 100, 1000, kPlain), HasSubstr("READY      0       -       -         2       0"));
}

TEST(ModelReference, TakesAliasesAndVersions) {
  EXPECT_EQ(spec::ParseModelRef("fashion@champion")->alias, "champion");
  EXPECT_EQ(spec::ParseModelRef("fashion/3")->version, 3);
  EXPECT_FALSE(spec::ParseModelRef("fashion/x").ok());
}

TEST(Resize, TakesHeightByWidth) {
  EXPECT_EQ(*ParseResize("32x48"), std::pair(32, 48));
  for (const char* bad : {"", "32", "x", "0x3", "-1x3", "32x48x3", "99999x1"}) {
    EXPECT_EQ(ExitOf(ParseResize(bad).status()), Exit::kUsage) << bad;
  }
}

class Files : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& content) {
    std::string path = folder_.path() + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  TemporaryFolder folder_ = *TemporaryFolder::Create();
};

TEST_F(Files, AModelBesideItsSpecBecomesAbsolute) {
  std::string model = Write("it's here/net.onnx", "x");
  auto overrides = LocalPathOverrides("model: {onnx: net.onnx}\n", folder_.path() + "/it's here", {"epochs=2"});
  std::string quoted = model;
  quoted.insert(quoted.find('\''), "'");
  EXPECT_THAT(overrides, ElementsAre("model.onnx='" + quoted + "'", "epochs=2"));
}

TEST_F(Files, ASetPathIsMadeAbsoluteAndComesLast) {
  std::string model = Write("a.onnx", "x");
  std::string relative = std::filesystem::relative(model).string();
  auto overrides = LocalPathOverrides("model: {onnx: a.onnx}", folder_.path(), {"model.onnx=" + relative});
  EXPECT_THAT(overrides, ElementsAre("model.onnx='" + model + "'", "model.onnx='" + model + "'"));
}

TEST_F(Files, SpecsThatNameNoLocalFileAreLeftAlone) {
  for (const char* text : {"model: {onnx: absent.onnx}", "model: {architecture: mlp}", "model: mlp", "a: [", "- 1", "",
                           "model: {onnx: [1]}"}) {
    EXPECT_THAT(LocalPathOverrides(text, folder_.path(), {}), ElementsAre()) << text;
  }
}

TEST_F(Files, ExternalDataIsSeenAlsoAcrossPieces) {
  std::string key = "\x0a\x08location";
  EXPECT_FALSE(*HasExternalData(Write("plain.onnx", "location")));
  EXPECT_TRUE(*HasExternalData(Write("small.onnx", "xx" + key + "yy")));
  EXPECT_TRUE(*HasExternalData(Write("split.onnx", std::string((1 << 20) - 4, 'x') + key)));
  EXPECT_EQ(ExitOf(HasExternalData(folder_.path() + "/absent").status()), Exit::kNotFound);
}

TEST(PredictOptions, AWordBehindJsonIsTheInputFile) {
  PredictOptions options{.model = "m", .json = true, .json_value = "in.json"};
  ASSERT_TRUE(SettlePredictOptions(&options).ok());
  EXPECT_EQ(options.json_input, "in.json");
}

TEST(PredictOptions, AWordBehindJsonIsTheModelWhereNoneIsGiven) {
  PredictOptions options{.image = "x.png", .json = true, .json_value = "m"};
  ASSERT_TRUE(SettlePredictOptions(&options).ok());
  EXPECT_EQ(options.model, "m");
  EXPECT_EQ(options.json_input, "");
}

TEST(PredictOptions, NeedsOneModelAndOneInput) {
  PredictOptions none{.model = "m"};
  PredictOptions both{.model = "m", .image = "x.png", .json_value = "in.json"};
  PredictOptions twice{.model = "m", .json_input = "a", .json_value = "b"};
  PredictOptions no_model{.image = "x.png"};
  for (PredictOptions* options : {&none, &both, &twice, &no_model}) {
    EXPECT_EQ(ExitOf(SettlePredictOptions(options)), Exit::kUsage);
  }
}

TEST(Probabilities, AreLeftAloneOrMadeBySoftmax) {
  EXPECT_THAT(Probabilities({0.2, 0.8}), ElementsAre(0.2, 0.8));
  EXPECT_THAT(Probabilities({1000, 1000 + std::log(3)}), ElementsAre(DoubleNear(0.25, 1e-9), DoubleNear(0.75, 1e-9)));
  EXPECT_THAT(Probabilities({}), ElementsAre());
  std::vector<ClassScore> top = TopClasses({0.1, 0.4, 0.4, 0.1}, 3);
  EXPECT_EQ(top.at(0).number, 1);
  EXPECT_EQ(top.at(1).number, 2);
  EXPECT_EQ(top.at(2).number, 0);
}

TEST(ImageSize, FollowsTheModelsInput) {
  auto size = [](Shape shape) { return ImageSizeFor({"input", DType::kFloat32, std::move(shape)}); };
  EXPECT_EQ(size({-1, 3, 32, 40})->width, 40);
  EXPECT_EQ(size({-1, 3, -1, -1})->height, 0);
  EXPECT_EQ(size({-1, 784})->height, 28);
  EXPECT_EQ(size({-1, 784})->channels, 1);
  EXPECT_EQ(size({-1, 3072})->channels, 3);
  EXPECT_FALSE(size({-1, 7}).ok());
  EXPECT_FALSE(size({}).ok());
  EXPECT_FALSE(ImageTensor("no image", {"input", DType::kFloat32, {-1, 1, 28, 28}}).ok());
}

TEST(InferRequest, WrapsPlainListsAndKeepsWholeRequests) {
  client::Inference::Metadata model;
  model.name = "m";
  model.inputs.push_back({"x", DType::kFloat32, {-1, 2}});
  EXPECT_EQ(nlohmann::json::parse(*InferRequestJson("[1, 2]", model)),
            nlohmann::json::parse(R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]})"));
  EXPECT_THAT(*InferRequestJson("[[1,2],[3,4]]", model), HasSubstr(R"("shape":[2,2])"));
  EXPECT_EQ(*InferRequestJson(R"({"inputs":[]})", model), R"({"inputs":[]})");
  for (const char* bad : {"", "{}", "[", "[]", "3", "nonsense"}) EXPECT_FALSE(InferRequestJson(bad, model).ok()) << bad;
  model.inputs.push_back(model.inputs[0]);
  EXPECT_FALSE(InferRequestJson("[1]", model).ok());
}

TEST(ModelCheck, NamesOperatorsThatAreMissing) {
  EXPECT_THAT(Missing({"Conv", "Foo", "Relu"}, {"Relu", "Conv"}), ElementsAre("Foo"));
  PlaceCheck bad{.place = "trainer", .ok = false, .missing = {"Foo", "Bar"}, .error = ""};
  EXPECT_THAT(ToText({bad}, kPlain), HasSubstr("trainer  error  no operator Foo, Bar"));
  EXPECT_EQ(ToJson({bad})[0]["missing"].size(), 2u);
}

}  // namespace
}  // namespace tandem::cli
