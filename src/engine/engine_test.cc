#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "base/files.h"
#include "base/status.h"
#include "engine/testing.h"
#include "graph/graph.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::TempFolder;

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() { testing::UseTestEngines(TANDEM_BIN_DIR); }

  absl::StatusOr<wire::Prepared> Prepare(const std::string& engine, const std::filesystem::path& model) {
    return PrepareInChild(testing::Spawn, engine, model, folder_ / "prepared", {}, 60);
  }
  // An mlp of 4 inputs and 3 classes.
  std::filesystem::path WriteMlp(uint64_t seed = 1) {
    graph::Architecture architecture{"mlp", {4}, 3, seed, {8}};
    absl::StatusOr<std::string> bytes = graph::MakeModel(architecture);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return folder_.Write("mlp.onnx", *bytes);
  }

  TempFolder folder_;
};

InputView View(const std::vector<float>& values, Shape shape) {
  return {DType::kFloat32, std::move(shape), values.data(), values.size() * sizeof(float)};
}

struct Loaded {
  std::unique_ptr<LoadedModel> model;
  std::unique_ptr<Instance> instance;
};
Loaded Load(Engine* engine, const std::filesystem::path& folder) {
  absl::StatusOr<std::unique_ptr<LoadedModel>> model = engine->Load(folder, {});
  EXPECT_TRUE(model.ok()) << model.status();
  absl::StatusOr<std::unique_ptr<Instance>> instance = (*model)->MakeInstance();
  EXPECT_TRUE(instance.ok()) << instance.status();
  return {std::move(*model), std::move(*instance)};
}

TEST_F(EngineTest, AnUnknownEngineIsRefusedWithThoseThereAre) {
  absl::Status status = OpenEngine("openvimo").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no engine 'openvimo'"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("did you mean 'openvino'?"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("echo"));
}

TEST_F(EngineTest, ANameThatIsAPathIsRefused) {
  EXPECT_EQ(OpenEngine("../echo").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(EngineTest, APluginOfAnotherVersionIsRefusedWithBothVersions) {
  absl::Status status = OpenEngine("otherabi").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("libtandem_engine_otherabi.so"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("speaks version 99"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("this tandem speaks version 1"));
}

TEST_F(EngineTest, APluginThatDoesNotAnswerIsRefused) {
  EXPECT_THAT(std::string(OpenEngine("deaf").status().message()), HasSubstr("does not speak version 1"));
}

TEST_F(EngineTest, ATableWithHolesIsRefused) {
  EXPECT_THAT(std::string(OpenEngine("holes").status().message()), HasSubstr("a function is missing"));
}

TEST_F(EngineTest, APluginUnderAnotherNameIsRefused) {
  EXPECT_THAT(std::string(OpenEngine("misnamed").status().message()), HasSubstr("calls itself 'gate'"));
}

TEST_F(EngineTest, ALibraryWithoutTheEntryFunctionIsRefused) {
  EXPECT_THAT(std::string(OpenEngine("noentry").status().message()), HasSubstr("no function tandem_engine_entry"));
}

TEST_F(EngineTest, AFileThatIsNoLibraryIsRefused) {
  folder_.Write("libtandem_engine_text.so", "hello");
  setenv("TANDEM_ENGINE_PATH", (folder_ / "").c_str(), 1);
  EXPECT_THAT(std::string(OpenEngine("text").status().message()), HasSubstr("cannot be loaded"));
}

TEST_F(EngineTest, TheListHoldsUsableAndUnusableEngines) {
  std::map<std::string, EngineInfo> infos;
  for (const EngineInfo& info : ListEngines()) infos[info.name] = info;
  EXPECT_EQ(infos["echo"].version, "1");
  EXPECT_EQ(infos["echo"].error, "");
  EXPECT_THAT(infos["openvino"].version, HasSubstr("2026."));
  EXPECT_THAT(infos["deaf"].error, HasSubstr("does not speak"));
}

TEST_F(EngineTest, EchoReturnsItsInput) {
  absl::StatusOr<wire::Prepared> prepared = Prepare("echo", folder_.Write("m.echo", "IN FP32 -1,2 OUT\n"));
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ(prepared->inputs(0).name(), "IN");
  EXPECT_EQ(prepared->outputs(0).name(), "OUT");
  Loaded loaded = Load(*OpenEngine("echo"), folder_ / "prepared");
  EXPECT_EQ(loaded.model->inputs()[0].shape, (Shape{-1, 2}));
  std::vector<float> values = {1, 2, 3, 4};
  std::vector<Tensor> outputs;
  ASSERT_TRUE(loaded.instance->Run({View(values, {2, 2})}, &outputs).ok());
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(outputs[0].name, "OUT");
  EXPECT_EQ(outputs[0].shape, (Shape{2, 2}));
  EXPECT_EQ(std::memcmp(outputs[0].buffer.data(), values.data(), 16), 0);
}

TEST_F(EngineTest, EchoNamesWhatIsWrongInItsFile) {
  EXPECT_THAT(std::string(Prepare("echo", folder_.Write("a.echo", "IN FP33 1\n")).status().message()),
              HasSubstr("unknown data type 'FP33'"));
  EXPECT_THAT(std::string(Prepare("echo", folder_.Write("b.echo", "IN FP32 1,x\n")).status().message()),
              HasSubstr("shape '1,x'"));
  EXPECT_THAT(std::string(Prepare("echo", folder_.Write("c.echo", "")).status().message()), HasSubstr("cannot read"));
}

TEST_F(EngineTest, ACrashOfTheChildIsAnErrorThatSaysSoAndLeavesNothing) {
  absl::Status status = Prepare("gate", folder_.Write("m", "crash")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("crashed the engine: signal 6"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "prepared"));
  int left = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_ / "")) ++left;
  EXPECT_EQ(left, 1) << "only the model file";
}

TEST_F(EngineTest, ACrashOfTheFirstLoadOrWarmUpHappensInTheChildToo) {
  for (const char* kind : {"crash-load", "crash-run"}) {
    absl::Status status = Prepare("gate", folder_.Write("m", kind)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr("crashed the engine: signal 6 (Aborted)")) << kind;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "prepared")) << kind;
  }
}

TEST_F(EngineTest, PreparedForAnotherDeviceCountsAsAbsent) {
  ASSERT_TRUE(Prepare("echo", folder_.Write("m.onnx", "x")).ok());
  Options options;
  options.device = "GPU";
  absl::Status status = ReadPrepared(folder_ / "prepared", "echo", options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("for CPU, needed is echo in f32 for GPU"));
}

TEST_F(EngineTest, ARefusalOfTheEngineKeepsItsText) {
  absl::Status status = Prepare("gate", folder_.Write("m", "bad")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("operator 'Nonsense' is not supported"));
}

TEST_F(EngineTest, ATimeoutIsSaid) {
  auto spawn = [](const std::vector<std::string>&, double) -> absl::StatusOr<ChildResult> {
    return ChildResult{9, "", true};
  };
  absl::Status status = PrepareInChild(spawn, "echo", "m", folder_ / "prepared", {}, 90).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("longer than 1 min 30 s"));
}

TEST_F(EngineTest, AChildThatLeavesNothingIsAnError) {
  auto spawn = [](const std::vector<std::string>&, double) -> absl::StatusOr<ChildResult> { return ChildResult{}; };
  absl::Status status = PrepareInChild(spawn, "echo", "m", folder_ / "prepared", {}, 90).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("no readable prepared.json"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "prepared"));
}

TEST_F(EngineTest, PreparedCountsOnlyForTheSameEngineVersionAndPrecision) {
  ASSERT_TRUE(Prepare("echo", folder_.Write("m.onnx", "x")).ok());
  Engine* echo = *OpenEngine("echo");
  EXPECT_TRUE(ReadPrepared(folder_ / "prepared", *echo, {}).ok());
  Options bf16;
  bf16.precision = "bf16";
  absl::Status status = ReadPrepared(folder_ / "prepared", *echo, bf16).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("needed is echo in bf16 for CPU"));
  EXPECT_EQ(ReadPrepared(folder_ / "prepared", **OpenEngine("gate"), {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadPrepared(folder_ / "absent", *echo, {}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(EngineTest, PreparingAgainReplacesTheFolder) {
  ASSERT_TRUE(Prepare("echo", folder_.Write("a.echo", "A FP32 1\n")).ok());
  ASSERT_TRUE(Prepare("echo", folder_.Write("b.echo", "B FP32 1\n")).ok());
  EXPECT_EQ(ReadPrepared(folder_ / "prepared", **OpenEngine("echo"), {})->inputs(0).name(), "B");
}

TEST_F(EngineTest, ARunWithoutOutputsIsAnErrorOfTheEngine) {
  absl::Status status = Prepare("gate", folder_.Write("m", "silent")).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("run made 0 outputs of 1"));
}

TEST_F(EngineTest, OpenvinoServesAModelWithAnyBatch) {
  absl::StatusOr<wire::Prepared> prepared = Prepare("openvino", WriteMlp());
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_GT(prepared->memory_bytes(), 0);
  Loaded loaded = Load(*OpenEngine("openvino"), folder_ / "prepared");
  ASSERT_EQ(loaded.model->inputs().size(), 1u);
  EXPECT_EQ(loaded.model->inputs()[0].name, "input");
  EXPECT_EQ(loaded.model->inputs()[0].shape, (Shape{-1, 4}));
  EXPECT_EQ(loaded.model->outputs()[0].name, "logits");
  std::vector<float> values = {.1f, .2f, .3f, .4f, .5f, .6f, .7f, .8f};
  std::vector<Tensor> both, second;
  ASSERT_TRUE(loaded.instance->Run({View(values, {2, 4})}, &both).ok());
  EXPECT_EQ(both[0].shape, (Shape{2, 3}));
  std::vector<float> tail(values.begin() + 4, values.end());
  ASSERT_TRUE(loaded.instance->Run({View(tail, {1, 4})}, &second).ok());
  EXPECT_EQ(second[0].shape, (Shape{1, 3}));
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(second[0].As<float>()[i], both[0].As<float>()[3 + i], 1e-5);
}

TEST_F(EngineTest, OpenvinoReadsLargeInputsWhereTheyLieAndSmallOnesAfterThem) {
  ASSERT_TRUE(Prepare("openvino", WriteMlp()).ok());
  Loaded loaded = Load(*OpenEngine("openvino"), folder_ / "prepared");
  const int64_t rows = 8192;  // 128 kB
  Tensor big;
  big.buffer.Resize(rows * 16);
  for (int64_t i = 0; i < rows * 4; ++i) big.As<float>()[i] = static_cast<float>(i % 7) / 7;
  std::vector<Tensor> all, one;
  InputView view{DType::kFloat32, {rows, 4}, big.buffer.data(), big.buffer.size()};
  ASSERT_TRUE(loaded.instance->Run({view}, &all).ok());
  InputView last{DType::kFloat32, {1, 4}, big.As<float>() + (rows - 1) * 4, 16};
  ASSERT_TRUE(loaded.instance->Run({last}, &one).ok());
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(one[0].As<float>()[i], all[0].As<float>()[(rows - 1) * 3 + i], 1e-5);
}

TEST_F(EngineTest, OpenvinoInstancesRunAtTheSameTime) {
  ASSERT_TRUE(Prepare("openvino", WriteMlp()).ok());
  Loaded loaded = Load(*OpenEngine("openvino"), folder_ / "prepared");
  std::vector<std::unique_ptr<Instance>> instances;
  for (int i = 0; i < 4; ++i) instances.push_back(std::move(*loaded.model->MakeInstance()));
  std::vector<float> values = {.1f, .2f, .3f, .4f};
  std::vector<Tensor> expected;
  ASSERT_TRUE(loaded.instance->Run({View(values, {1, 4})}, &expected).ok());
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (auto& instance : instances) {
    threads.emplace_back([&, instance = instance.get()] {
      std::vector<Tensor> outputs;
      for (int i = 0; i < 500; ++i) {
        if (!instance->Run({View(values, {1, 4})}, &outputs).ok() || outputs[0].bytes() != expected[0].bytes()) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(EngineTest, OpenvinoRefusesAFileThatIsNoModelInOneUsefulLine) {
  absl::Status status = Prepare("openvino", folder_.Write("m.onnx", "this is not a model")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("Exception from")));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\n")));
  EXPECT_THAT(std::string(status.message()), HasSubstr("m.onnx"));
}

TEST_F(EngineTest, OpenvinoRefusesATruncatedModelAndADamagedFolder) {
  std::filesystem::path mlp = WriteMlp();
  absl::StatusOr<std::string> bytes = ReadFile(mlp);
  EXPECT_FALSE(Prepare("openvino", folder_.Write("half.onnx", bytes->substr(0, bytes->size() / 2))).ok());
  ASSERT_TRUE(Prepare("openvino", mlp).ok());
  std::ofstream(folder_ / "prepared/signature") << "something else\n";
  absl::Status status = (*OpenEngine("openvino"))->Load(folder_ / "prepared", {}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("not written by this plug-in"));
}

TEST_F(EngineTest, AnUnknownPrecisionIsRefused) {
  Options options;
  options.precision = "f99";
  absl::Status status =
      PrepareInChild(testing::Spawn, "openvino", WriteMlp(), folder_ / "prepared", options, 60).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("precision 'f99' is none of f32, bf16, f16"));
}

}  // namespace
}  // namespace tandem::engine
