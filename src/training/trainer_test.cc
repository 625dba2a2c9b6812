#include "training/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "base/status.h"
#include "training/test_data.h"

namespace tandem::training {
namespace {

using testing::HasSubstr;

constexpr std::string_view kWaiting = "waiting for the former trainer";

// A tiny ResNet with BatchNorm on 12x12 images: 66 samples, 4 steps an epoch, the last one smaller.
class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_.path() / "data");
    dataset_ = MakeDataset(folder_.path() / "data", 72, 12);
    spec_.name = "test";
    spec_.model.architecture = "resnet8";
    spec_.dataset = "blocks";
    spec_.epochs = 2;
    spec_.batch = 20;
    spec_.micro_batch = 4;
    spec_.precision = "fp32";
    spec_.seed = 3;
    spec_.label_smoothing = 0.1;
    spec_.augment = {{.name = "flip"}, {.name = "crop", .padding = 1}};
  }

  TrainerInputs Inputs(const std::string& job, int threads) {
    return {.spec = spec_,
            .dataset = dataset_,
            .model_path = model_path_,
            .folder = folder_.path() / job,
            .output_path = folder_.path() / (job + ".onnx"),
            .threads = threads,
            .clock = clock_};
  }

  std::string Output(const std::string& job) { return ReadFile(folder_.path() / (job + ".onnx")).value_or("none"); }

  // Runs a job to its end and returns the trained file.
  std::string Train(const std::string& job, int threads, const TrainerHooks& hooks = {}) {
    auto trainer = Trainer::Create(Inputs(job, threads));
    EXPECT_TRUE(trainer.ok()) << trainer.status();
    if (!trainer.ok()) return "";
    auto outcome = (*trainer)->Run(hooks);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    if (outcome.ok()) outcome_ = *outcome;
    return Output(job);
  }

  // Runs a job until `step` steps are done, then stops it.
  void TrainUntil(const std::string& job, int threads, int64_t step) {
    auto trainer = Trainer::Create(Inputs(job, threads));
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    TrainerHooks hooks;
    hooks.progress = [&](const wire::Progress& progress) {
      if (progress.step() >= step) (*trainer)->Stop();
    };
    auto outcome = (*trainer)->Run(hooks);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_TRUE(outcome->stopped);
    EXPECT_EQ(outcome->step, step);
  }

  absl::Status CreateError() {
    auto trainer = Trainer::Create(Inputs("job", 1));
    return trainer.ok() ? absl::OkStatus() : trainer.status();
  }

  TestFolder folder_;
  wire::Dataset dataset_;
  spec::TrainSpec spec_;
  std::string model_path_;
  Clock* clock_ = Clock::Real();
  TrainerOutcome outcome_;
};

TEST_F(TrainerTest, LearnsAnEasySet) {
  spec_.epochs = 8;
  spec_.augment.clear();
  Train("job", 2);
  EXPECT_GT(outcome_.metrics["accuracy"], 0.9);
  EXPECT_GT(outcome_.metrics["images_per_s"], 0);
  const int steps = 8 * ((dataset_.train() + 19) / 20);
  EXPECT_EQ(outcome_.metrics["steps"], static_cast<double>(steps));
}

TEST_F(TrainerTest, AnyNumberOfThreadsGivesTheSameBytes) {
  std::string one = Train("one", 1);
  EXPECT_EQ(one, Train("two", 2));
  EXPECT_EQ(one, Train("three", 3));
}

TEST_F(TrainerTest, ThreadsThatComeAndGoGiveTheSameBytes) {
  std::string one = Train("one", 1);
  auto trainer = Trainer::Create(Inputs("changing", 1));
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  TrainerHooks hooks;
  hooks.progress = [&](const wire::Progress& progress) { (*trainer)->SetThreads(1 + progress.step() % 4); };
  ASSERT_TRUE((*trainer)->Run(hooks).ok());
  EXPECT_EQ(one, Output("changing"));
}

TEST_F(TrainerTest, OptimisersAndPrecisionsAreEqualForAnyNumberOfThreadsToo) {
  spec_.epochs = 1;
  spec_.optimizer = {.name = "adamw", .lr = 0.001, .weight_decay = 0.01};
  for (const char* precision : {"bf16", "fp64"}) {
    spec_.precision = precision;
    EXPECT_EQ(Train(StrCat(precision, "-one"), 1), Train(StrCat(precision, "-two"), 2)) << precision;
  }
}

TEST_F(TrainerTest, ResumingAtAnyStepGivesTheSameBytesAsNeverStopping) {
  std::string whole = Train("whole", 2);
  for (int64_t step : {1, 3, 4, 7}) {
    std::string job = StrCat("stopped-", step);
    TrainUntil(job, 1, step);
    EXPECT_EQ(whole, Train(job, 2)) << "stopped after step " << step;
  }
}

TEST_F(TrainerTest, ABrokenLatestCheckpointFallsBackToTheOneBefore) {
  std::string whole = Train("whole", 2);
  TrainUntil("job", 2, 2);
  TrainUntil("job", 2, 5);
  std::string bytes = ReadFile(folder_.path() / "job/checkpoint-5.tckpt").value();
  bytes[bytes.size() / 2] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(folder_.path() / "job/checkpoint-5.tckpt", bytes).ok());
  EXPECT_EQ(whole, Train("job", 2));
}

TEST_F(TrainerTest, ACheckpointOfAnotherSpecIsRefused) {
  TrainUntil("job", 1, 2);
  spec_.optimizer.lr = 0.01;
  auto trainer = Trainer::Create(Inputs("job", 1));
  ASSERT_TRUE(trainer.ok());
  auto outcome = (*trainer)->Run({});
  EXPECT_THAT(std::string(MessageOf(outcome.status())), HasSubstr("another spec"));
}

TEST_F(TrainerTest, TwoTrainersNeverShareAFolder) {
  auto first = Trainer::Create(Inputs("job", 1)), second = Trainer::Create(Inputs("job", 1));
  ASSERT_TRUE(first.ok() && second.ok());
  absl::Status refused;
  TrainerHooks hooks;
  hooks.progress = [&](const wire::Progress& progress) {
    if (progress.step() == 1) refused = (*second)->Run({}).status();
  };
  ASSERT_TRUE((*first)->Run(hooks).ok());
  EXPECT_THAT(std::string(MessageOf(refused)), HasSubstr("held by another process"));
}

TEST_F(TrainerTest, AStopIsHeardWhileTheFormerTrainerHoldsTheFolder) {
  TrainUntil("job", 2, 2);
  FileLock former = *FileLock::Acquire(folder_.path() / "job/trainer.lock", "pid=1\n");
  auto trainer = Trainer::Create(Inputs("job", 2));
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  TrainerHooks hooks;
  std::thread stopper;
  hooks.progress = [&](const wire::Progress& progress) {
    if (progress.phase() == kWaiting) stopper = std::thread([&] { (*trainer)->Stop(); });
  };
  int64_t left = -1;
  hooks.left = [&](int64_t step) { left = step; };
  auto outcome = (*trainer)->Run(hooks);
  ASSERT_TRUE(stopper.joinable()) << "it did not wait";
  stopper.join();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(outcome->stopped);
  EXPECT_EQ(left, 2) << "where the job goes on";
}

TEST_F(TrainerTest, AFolderIsTakenWhenTheFormerTrainerLeavesIt) {
  std::string whole = Train("whole", 2);
  TrainUntil("job", 1, 3);
  std::optional<FileLock> former(*FileLock::Acquire(folder_.path() / "job/trainer.lock", "pid=1\n"));
  TrainerHooks hooks;
  std::thread leaver;
  hooks.progress = [&](const wire::Progress& progress) {
    if (progress.phase() == kWaiting) leaver = std::thread([&] { former.reset(); });
  };
  EXPECT_TRUE(whole == Train("job", 2, hooks));
  ASSERT_TRUE(leaver.joinable()) << "it did not wait";
  leaver.join();
}

TEST_F(TrainerTest, NaNStopsTheJobAndKeepsTheLastGoodCheckpoint) {
  spec_.optimizer.lr = 1e30;
  spec_.checkpoint.every_steps = 1;
  auto trainer = Trainer::Create(Inputs("job", 2));
  ASSERT_TRUE(trainer.ok());
  auto outcome = (*trainer)->Run({});
  EXPECT_THAT(std::string(MessageOf(outcome.status())), HasSubstr("lower optimizer.lr"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "job.onnx"));
}

TEST_F(TrainerTest, AFailingCheckpointIsAWarningAndTheJobFinishes) {
  spec_.checkpoint.every_steps = 2;
  std::string undisturbed = Train("undisturbed", 2);
  bool warned = false;
  TrainerHooks hooks;
  hooks.progress = [&](const wire::Progress& progress) {
    // What is in the way of the file makes the rename fail.
    if (progress.step() == 1) std::filesystem::create_directories(folder_.path() / "job/checkpoint-2.tckpt/x");
    warned |= progress.phase().find("failed") != std::string::npos;
  };
  EXPECT_EQ(undisturbed, Train("job", 2, hooks));
  EXPECT_TRUE(warned);
}

TEST_F(TrainerTest, AnOutputThatCannotBeWrittenFailsAtTheEnd) {
  TrainerInputs inputs = Inputs("job", 2);
  inputs.spec.steps = 1;
  inputs.spec.epochs = 0;
  inputs.output_path = folder_.path() / "no/such/folder.onnx";
  auto trainer = Trainer::Create(inputs);
  ASSERT_TRUE(trainer.ok());
  EXPECT_THAT(std::string(MessageOf((*trainer)->Run({}).status())), HasSubstr("cannot be written"));
}

TEST_F(TrainerTest, PauseRestsAndACheckpointCanBeWrittenInIt) {
  std::string whole = Train("whole", 1);
  auto trainer = Trainer::Create(Inputs("job", 2));
  ASSERT_TRUE(trainer.ok());
  bool paused = false;
  int64_t checkpointed = -1;
  TrainerHooks hooks;
  hooks.progress = [&](const wire::Progress& progress) {
    if (progress.step() == 3 && !paused && progress.phase() == "training") (*trainer)->Pause();
  };
  hooks.paused = [&](bool now) {
    if (now) (*trainer)->RequestCheckpoint();
    paused = true;
  };
  hooks.checkpointed = [&](int64_t step, const std::string&) {
    checkpointed = step;
    (*trainer)->Resume();
  };
  ASSERT_TRUE((*trainer)->Run(hooks).ok());
  EXPECT_EQ(checkpointed, 3);
  EXPECT_EQ(whole, Output("job"));
}

// Time passes by being looked at.
class CountingClock : public Clock {
 public:
  explicit CountingClock(int64_t nanos_a_look) : nanos_a_look_(nanos_a_look) {}
  int64_t MonotonicNanos() const override { return now_ += nanos_a_look_; }
  int64_t UnixMillis() const override { return 1'700'000'000'000; }
  void Slow(int64_t factor) { nanos_a_look_ = nanos_a_look_ * factor; }
  void Pass(int64_t nanos) { now_ += nanos; }

 private:
  std::atomic<int64_t> nanos_a_look_;
  mutable std::atomic<int64_t> now_{1};
};

TEST_F(TrainerTest, ATimeBudgetFixesTheStepsAndResumesWithThem) {
  CountingClock clock(1'000'000);
  spec_.epochs = 0;
  spec_.time_budget_s = 1;
  clock_ = &clock;
  TrainUntil("job", 1, 2);
  auto checkpoint = DecodeCheckpoint(ReadFile(folder_.path() / "job/checkpoint-2.tckpt").value());
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_GT(checkpoint->steps, 10);
  CountingClock faster(100'000);
  clock_ = &faster;
  Train("job", 2);
  EXPECT_EQ(outcome_.metrics["steps"], static_cast<double>(checkpoint->steps));
  EXPECT_FALSE(outcome_.metrics.contains("steps_planned"));
}

// How long a pause lasts in the tests of budgets of 1 s.
void PassAMinute(CountingClock* clock, Trainer* paused) {
  clock->Pass(60'000'000'000);
  paused->Resume();
}

TEST_F(TrainerTest, APauseWhileTheFirstStepsAreMeasuredIsNoTimeOfTheBudget) {
  CountingClock clock(1'000'000);
  spec_.epochs = 0;
  spec_.time_budget_s = 1;
  clock_ = &clock;
  auto trainer = Trainer::Create(Inputs("job", 1));
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  bool paused = false;
  TrainerHooks hooks;
  hooks.progress = [&](const wire::Progress& progress) {
    if (progress.phase() == "measuring") (*trainer)->Pause();
    if (progress.step() >= 2) (*trainer)->Stop();
  };
  hooks.paused = [&](bool now) {
    paused |= now;
    if (now) PassAMinute(&clock, trainer->get());
  };
  ASSERT_TRUE((*trainer)->Run(hooks).ok());
  EXPECT_TRUE(paused);
  auto checkpoint = DecodeCheckpoint(ReadFile(folder_.path() / "job/checkpoint-2.tckpt").value());
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_GT(checkpoint->steps, 10);
}

TEST_F(TrainerTest, APauseWhileItTrainsIsNoTimeOfTheBudget) {
  CountingClock clock(1'000'000);
  spec_.epochs = 0;
  spec_.time_budget_s = 1;
  clock_ = &clock;
  auto trainer = Trainer::Create(Inputs("job", 1));
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  bool paused = false;
  TrainerHooks hooks;
  hooks.progress = [&](const wire::Progress& progress) {
    if (progress.step() == 3 && !paused && progress.phase() == "training") (*trainer)->Pause();
  };
  hooks.paused = [&](bool now) {
    paused |= now;
    if (now) PassAMinute(&clock, trainer->get());
  };
  auto outcome = (*trainer)->Run(hooks);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(paused);
  EXPECT_GT(outcome->metrics["steps"], 6) << "60 s of pause are no part of the 1 s";
}

TEST_F(TrainerTest, AStarvedJobEndsWhenItsTimeBudgetIsOverAndSaysSo) {
  CountingClock clock(1'000'000);
  spec_.epochs = 0;
  spec_.time_budget_s = 1;
  clock_ = &clock;
  std::string phase;
  TrainerHooks hooks;
  hooks.progress = [&](const wire::Progress& progress) {
    if (progress.step() == 3 && progress.phase() == "training") clock.Slow(10);
    phase = progress.phase();
  };
  EXPECT_NE(Train("job", 2, hooks), "none");
  EXPECT_LT(outcome_.metrics["steps"], outcome_.metrics["steps_planned"]);
  EXPECT_TRUE(outcome_.metrics.contains("accuracy")) << "the weights that it has are evaluated";
  EXPECT_THAT(phase, HasSubstr(StrCat("ended at step ", outcome_.metrics["steps"], " of ",
                                      outcome_.metrics["steps_planned"], ": the time budget was over")));
}

TEST_F(TrainerTest, AGateThatChangesAllTheTimeGivesTheSameBytes) {
  std::string one = Train("one", 1);
  auto word = PressureWord::Create(folder_.path() / "word", 0);
  ASSERT_TRUE(word.ok()) << word.status();
  TrainerInputs inputs = Inputs("gated", 3);
  inputs.pressure_file = folder_.path() / "word";
  auto trainer = Trainer::Create(inputs);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  std::atomic<bool> done{false};
  std::thread daemon([&] {
    for (uint32_t random = 1; !done; random = random * 1664525 + 1013904223) {
      (*word)->Set((random >> 24) % 4);
      std::this_thread::sleep_for(std::chrono::microseconds((random >> 8) % 3000));
    }
    (*word)->Set(3);
  });
  auto outcome = (*trainer)->Run({});
  done = true;
  daemon.join();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(one == Output("gated"));
}

TEST_F(TrainerTest, AJobThatIsGatedSaysSoAndGoesOn) {
  auto word = PressureWord::Create(folder_.path() / "word", 0);
  ASSERT_TRUE(word.ok()) << word.status();
  TrainerInputs inputs = Inputs("job", 2);
  inputs.pressure_file = folder_.path() / "word";
  auto trainer = Trainer::Create(inputs);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  int gated = 0;
  TrainerHooks hooks;
  hooks.progress = [&](const wire::Progress& progress) {
    if (progress.phase() != "gated") return;
    ++gated;
    EXPECT_EQ(progress.step(), 0);
    EXPECT_EQ(progress.threads(), 0);
    (*word)->Set(2);
  };
  ASSERT_TRUE((*trainer)->Run(hooks).ok());
  EXPECT_EQ(gated, 1);
}

TEST_F(TrainerTest, AStopWhileGatedLeavesAtOnce) {
  TrainUntil("job", 2, 2);
  auto word = PressureWord::Create(folder_.path() / "word", 0);
  ASSERT_TRUE(word.ok()) << word.status();
  TrainerInputs inputs = Inputs("job", 2);
  inputs.pressure_file = folder_.path() / "word";
  auto trainer = Trainer::Create(inputs);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  TrainerHooks hooks;
  hooks.progress = [&](const wire::Progress& progress) {
    if (progress.phase() == "gated") (*trainer)->Stop();
  };
  auto outcome = (*trainer)->Run(hooks);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(outcome->stopped);
  EXPECT_EQ(outcome->step, 2);
}

TEST_F(TrainerTest, APressureWordThatCannotBeReadIsAnErrorAtTheStart) {
  TrainerInputs inputs = Inputs("job", 1);
  inputs.pressure_file = folder_.path() / "missing";
  EXPECT_THAT(std::string(MessageOf(Trainer::Create(inputs).status())), HasSubstr("missing"));
}

TEST_F(TrainerTest, AStopInMidStepLeavesWithTheLastStepAndResumesToTheSameBytes) {
  std::string whole = Train("whole", 2);
  auto trainer = Trainer::Create(Inputs("job", 2));
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  TrainerHooks hooks;
  int64_t left = -1, seen = -1;
  std::thread stopper;
  hooks.progress = [&](const wire::Progress& progress) {
    seen = progress.step();
    if (progress.step() == 3 && !stopper.joinable()) stopper = std::thread([&] { (*trainer)->Stop(); });
  };
  hooks.left = [&](int64_t step) {
    left = step;
    EXPECT_TRUE(std::filesystem::exists(folder_.path() / StrCat("job/checkpoint-", step, ".tckpt")));
  };
  auto outcome = (*trainer)->Run(hooks);
  stopper.join();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_TRUE(outcome->stopped);
  EXPECT_EQ(outcome->step, left);
  EXPECT_EQ(left, seen) << "no step that was done is lost";
  trainer->reset();  // with the folder's lock
  EXPECT_TRUE(whole == Train("job", 2));
}

TEST_F(TrainerTest, EveryCheckpointThatStepsPromiseIsWrittenWhileItTrains) {
  spec_.checkpoint.every_steps = 1;
  std::vector<int64_t> written;
  TrainerHooks hooks;
  hooks.checkpointed = [&](int64_t step, const std::string& path) {
    written.push_back(step);
    EXPECT_EQ(DecodeCheckpoint(ReadFile(path).value()).value().step, step);
  };
  std::string bytes = Train("job", 2, hooks);
  // After the last step comes the model itself.
  std::vector<int64_t> expected(static_cast<size_t>(outcome_.metrics["steps"]) - 1);
  std::iota(expected.begin(), expected.end(), 1);
  EXPECT_EQ(written, expected);
  spec_.checkpoint.every_steps = 0;
  EXPECT_TRUE(bytes == Train("undisturbed", 1));
}

TEST_F(TrainerTest, EachEpochIsEvaluatedWhileTheNextTrainsAndItsNumbersDoNotDependOnTheThreads) {
  dataset_ = MakeDataset(folder_.path() / "data", 200, 12);
  spec_.epochs = 4;
  auto accuracies = [&](const std::string& job, int threads) {
    std::vector<double> seen;
    TrainerHooks hooks;
    hooks.progress = [&](const wire::Progress& progress) {
      if (progress.accuracy() >= 0 && (seen.empty() || seen.back() != progress.accuracy())) {
        seen.push_back(progress.accuracy());
      }
    };
    Train(job, threads, hooks);
    return seen;
  };
  auto one = accuracies("one", 1);
  EXPECT_FALSE(one.empty());
  EXPECT_EQ(one, accuracies("two", 2));
}

TEST_F(TrainerTest, APacedJobWritesTheSameFile) {
  std::string fast = Train("fast", 2);
  TrainerInputs inputs = Inputs("paced", 2);
  inputs.disk_write_bytes_per_s = 4e6;
  inputs.spec.checkpoint.every_steps = 3;
  auto trainer = Trainer::Create(inputs);
  ASSERT_TRUE(trainer.ok());
  ASSERT_TRUE((*trainer)->Run({}).ok());
  EXPECT_TRUE(fast == Output("paced"));
}

TEST_F(TrainerTest, OnlyTrainedWeightsAndStatisticsChangeInTheFile) {
  auto start = graph::MakeModel({.name = "resnet8", .input = {1, 12, 12}, .classes = 3, .seed = 1});
  ASSERT_TRUE(start.ok());
  model_path_ = folder_.path() / "start.onnx";
  ASSERT_TRUE(WriteFileAtomically(model_path_, *start).ok());
  spec_.model = {.onnx = model_path_};
  auto before = graph::Graph::Parse(*start, "start");
  ASSERT_TRUE(before.ok());
  const std::string frozen = before->TrainableInitializers().front();
  spec_.freeze = {frozen};
  std::string trained = Train("job", 2);
  ASSERT_EQ(trained.size(), start->size());
  auto after = graph::Graph::Parse(trained, "trained");
  ASSERT_TRUE(after.ok());
  auto trainable = before->TrainableInitializers(), statistics = before->StatisticInitializers();
  std::set<std::string> may_change(trainable.begin(), trainable.end());
  may_change.insert(statistics.begin(), statistics.end());
  may_change.erase(frozen);
  // With the old data back in place the file is the old file.
  std::map<std::string, std::string> old;
  for (const auto& initializer : before->initializers()) {
    bool equal = initializer.data == after->FindInitializer(initializer.name)->data;
    EXPECT_EQ(!equal, may_change.contains(initializer.name)) << initializer.name;
    if (!equal) old[initializer.name] = std::string(initializer.data);
  }
  auto restored = after->Splice(old);
  ASSERT_TRUE(restored.ok());
  EXPECT_EQ(*restored, *start);
}

TEST_F(TrainerTest, SetAndModelThatDoNotFitAreRefusedBeforeTheFirstStep) {
  auto write = [&](const Shape& input, int64_t classes) {
    auto bytes = graph::MakeModel({.name = "resnet8", .input = input, .classes = classes, .seed = 1});
    EXPECT_TRUE(bytes.ok());
    model_path_ = folder_.path() / "start.onnx";
    EXPECT_TRUE(WriteFileAtomically(model_path_, *bytes).ok());
  };
  write({3, 12, 12}, 3);
  EXPECT_THAT(std::string(MessageOf(CreateError())), HasSubstr("samples are [1,12,12]"));
  write({1, 12, 12}, 10);
  EXPECT_THAT(std::string(MessageOf(CreateError())), HasSubstr("gives 10 numbers a sample, the data set has 3"));
}

TEST_F(TrainerTest, AModelThatIsNoOnnxFileOrMissingIsNamed) {
  model_path_ = folder_.path() / "broken.onnx";
  ASSERT_TRUE(WriteFileAtomically(model_path_, "no model").ok());
  EXPECT_THAT(std::string(MessageOf(CreateError())), HasSubstr("broken.onnx"));
  model_path_ = folder_.path() / "missing.onnx";
  EXPECT_THAT(std::string(MessageOf(CreateError())), HasSubstr("missing.onnx"));
}

TEST_F(TrainerTest, PatternsThatMatchNothingAreErrors) {
  spec_.train = {"no_such_*"};
  EXPECT_THAT(std::string(MessageOf(CreateError())), HasSubstr("train: 'no_such_*' matches no trainable"));
  spec_.train.clear();
  spec_.freeze = {"*"};
  EXPECT_THAT(std::string(MessageOf(CreateError())), HasSubstr("nothing to train"));
}

}  // namespace
}  // namespace tandem::training
