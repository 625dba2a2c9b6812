#include "training/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <thread>

#include "base/files.h"
#include "base/pressure_word.h"
#include "base/status.h"
#include "graph/graph.h"
#include "messaging/channel.h"
#include "onnx-ml.pb.h"
#include "spec/train_spec.h"
#include "trainer.pb.h"
#include "training/evaluate_job.h"
#include "training/test_data.h"

namespace tandem::training {
namespace {

using testing::HasSubstr;

// The daemon's side of one conversation; the trainer runs on a thread.
class JobTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_.path() / "data");
    auto pair = messaging::MakeSocketPair();
    ASSERT_TRUE(pair.ok());
    channel_ = std::make_unique<messaging::Channel>(std::move(pair->first));
    trainer_ = std::thread([this, socket = std::move(pair->second)]() mutable { code_ = RunJob(std::move(socket)); });
  }
  void TearDown() override {
    channel_->Shutdown();
    if (trainer_.joinable()) trainer_.join();
  }

  wire::ToTrainer TrainAssignment(int64_t epochs) {
    spec::TrainSpec spec;
    spec.name = "test";
    spec.model.architecture = "lenet";
    spec.dataset = "blocks";
    spec.epochs = epochs;
    spec.batch = 20;
    wire::ToTrainer message;
    wire::Assignment* assignment = message.mutable_assignment();
    assignment->set_kind("train");
    assignment->set_spec(spec::ToYaml(spec));
    *assignment->mutable_dataset() = MakeDataset(folder_.path() / "data", 60, 28);
    assignment->set_folder(folder_.path() / "job");
    assignment->set_output_path(folder_.path() / "out.onnx");
    assignment->set_threads(2);
    return message;
  }

  void SendVerb(wire::Control::Verb verb, int threads = 0) {
    wire::ToTrainer message;
    message.mutable_control()->set_verb(verb);
    message.mutable_control()->set_threads(threads);
    ASSERT_TRUE(channel_->Send(message).ok());
  }

  // Messages until one that `wanted` accepts.
  wire::FromTrainer Await(const std::function<bool(const wire::FromTrainer&)>& wanted) {
    wire::FromTrainer message;
    while (true) {
      absl::Status status = channel_->Receive(&message, 30'000);
      EXPECT_TRUE(status.ok()) << status;
      if (!status.ok()) return {};
      EXPECT_FALSE(message.has_failed() && !wanted(message)) << message.failed().error();
      if (wanted(message) || message.has_failed()) return message;
    }
  }

  TestFolder folder_;
  std::unique_ptr<messaging::Channel> channel_;
  std::thread trainer_;
  int code_ = -1;
};

TEST_F(JobTest, TrainsReportsAndFinishes) {
  ASSERT_TRUE(channel_->Send(TrainAssignment(3)).ok());
  wire::FromTrainer loading = Await([](const auto& m) { return m.has_progress(); });
  EXPECT_EQ(loading.progress().phase(), "loading");
  wire::FromTrainer last = Await([](const auto& m) { return m.has_finished(); });
  EXPECT_EQ(last.finished().output_path(), (folder_.path() / "out.onnx").string());
  EXPECT_TRUE(last.finished().metrics().contains("accuracy"));
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / "out.onnx"));
  trainer_.join();
  EXPECT_EQ(code_, 0);
}

TEST_F(JobTest, ObeysPauseResumeCheckpointAndStop) {
  ASSERT_TRUE(channel_->Send(TrainAssignment(100000)).ok());
  Await([](const auto& m) { return m.progress().step() > 0; });
  SendVerb(wire::Control::PAUSE);
  EXPECT_TRUE(Await([](const auto& m) { return m.has_paused(); }).paused().paused());
  SendVerb(wire::Control::CHECKPOINT);
  int step = Await([](const auto& m) { return m.has_checkpointed(); }).checkpointed().step();
  SendVerb(wire::Control::SET_THREADS, 1);
  SendVerb(wire::Control::RESUME);
  EXPECT_FALSE(Await([](const auto& m) { return m.has_paused(); }).paused().paused());
  Await([&](const auto& m) { return m.progress().step() > step && m.progress().threads() == 1; });
  SendVerb(wire::Control::STOP);
  int stopped = Await([](const auto& m) { return m.has_stopped(); }).stopped().step();
  EXPECT_GT(stopped, step);
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / StrCat("job/checkpoint-", stopped, ".tckpt")));
}

TEST_F(JobTest, ObeysThePressureWord) {
  wire::ToTrainer message = TrainAssignment(100000);
  auto word = PressureWord::Create(folder_.path() / "word", 0);
  ASSERT_TRUE(word.ok()) << word.status();
  message.mutable_assignment()->set_pressure_file(folder_.path() / "word");
  ASSERT_TRUE(channel_->Send(message).ok());
  EXPECT_EQ(Await([](const auto& m) { return m.progress().phase() == "gated"; }).progress().step(), 0);
  (*word)->Set(2);
  Await([](const auto& m) { return m.progress().step() > 0 && m.progress().threads() == 2; });
  (*word)->Set(1);
  Await([](const auto& m) { return m.progress().threads() == 1; });
  SendVerb(wire::Control::STOP);
  Await([](const auto& m) { return m.has_stopped(); });
}

TEST_F(JobTest, AnErrorThatRepeatsBytesOfAFileArrives) {
  auto bytes = graph::MakeModel({.name = "lenet", .input = {1, 28, 28}, .classes = 3, .seed = 1});
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(*bytes));
  onnx::ValueInfoProto* input = model.mutable_graph()->mutable_input(0);
  const std::string name = input->name(), foreign = "caf\xe9";
  for (onnx::NodeProto& node : *model.mutable_graph()->mutable_node()) {
    for (std::string& value : *node.mutable_input()) {
      if (value == name) value = foreign;
    }
  }
  input->set_name(foreign);
  input->mutable_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::INT64);
  const auto file = folder_.path() / "foreign.onnx";
  ASSERT_TRUE(WriteFileAtomically(file, model.SerializeAsString()).ok());
  wire::ToTrainer message = TrainAssignment(1);
  message.mutable_assignment()->set_model_path(file.string());
  ASSERT_TRUE(channel_->Send(message).ok());
  auto failed = Await([](const auto& m) { return m.has_failed(); });
  EXPECT_THAT(failed.failed().error(), HasSubstr("input 'caf?' is INT64"));
}

TEST_F(JobTest, AnUnreadablePressureWordFailsTheJobAtTheStart) {
  wire::ToTrainer message = TrainAssignment(1);
  message.mutable_assignment()->set_pressure_file(folder_.path() / "missing");
  ASSERT_TRUE(channel_->Send(message).ok());
  wire::FromTrainer failed = Await([](const auto& m) { return m.has_failed(); });
  EXPECT_THAT(failed.failed().error(), HasSubstr("missing"));
}

TEST_F(JobTest, AClosedSocketMeansCheckpointAndLeave) {
  ASSERT_TRUE(channel_->Send(TrainAssignment(100000)).ok());
  Await([](const auto& m) { return m.progress().step() > 0; });
  channel_->Shutdown();
  trainer_.join();
  EXPECT_EQ(code_, 0);
  bool found = false;
  for (const auto& file : std::filesystem::directory_iterator(folder_.path() / "job")) {
    found |= file.path().extension() == ".tckpt";
  }
  EXPECT_TRUE(found);
}

class WaitingJobTest : public JobTest {
 protected:
  // Whose folder a former trainer holds.
  void StartWaiting() {
    std::filesystem::create_directories(folder_.path() / "job");
    former_.emplace(*FileLock::Acquire(folder_.path() / "job/trainer.lock", "pid=1\n"));
    ASSERT_TRUE(channel_->Send(TrainAssignment(1)).ok());
    Await([](const auto& m) { return m.progress().phase() == "waiting for the former trainer"; });
  }

  std::optional<FileLock> former_;
};

TEST_F(WaitingJobTest, HearsAStopWhileItWaitsForTheFormerTrainer) {
  StartWaiting();
  SendVerb(wire::Control::STOP);
  EXPECT_EQ(Await([](const auto& m) { return m.has_stopped(); }).stopped().step(), 0);
  trainer_.join();
  EXPECT_EQ(code_, 0);
}

TEST_F(WaitingJobTest, AClosedSocketEndsTheWaitForTheFormerTrainer) {
  StartWaiting();
  const auto begin = std::chrono::steady_clock::now();
  channel_->Shutdown();
  trainer_.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20)) << "it waited until its time was over";
  EXPECT_EQ(code_, 0);
}

TEST_F(JobTest, ASocketThatClosesBeforeTheAssignmentEndsTheProcess) {
  channel_->Shutdown();
  trainer_.join();
  EXPECT_EQ(code_, 1);
}

TEST_F(JobTest, SaysWhyAJobCannotStart) {
  wire::ToTrainer message = TrainAssignment(1);
  message.mutable_assignment()->set_spec("epochz: 3\n");
  ASSERT_TRUE(channel_->Send(message).ok());
  wire::FromTrainer failed = Await([](const auto& m) { return m.has_failed(); });
  EXPECT_THAT(failed.failed().error(), HasSubstr("epochz"));
  EXPECT_FALSE(failed.failed().retry());
}

TEST_F(JobTest, EvaluatesVersionsByTheEnginesAnswers) {
  wire::ToTrainer message = TrainAssignment(1);
  wire::Assignment* assignment = message.mutable_assignment();
  assignment->set_kind("evaluate");
  assignment->set_split("test");
  assignment->set_batch(4);
  assignment->add_versions("always-0");
  assignment->add_versions("broken");
  ASSERT_TRUE(channel_->Send(message).ok());
  auto answer = [&](const wire::EvalBatch& batch, const std::string& error) {
    wire::ToTrainer reply;
    wire::EvalAnswer* out = reply.mutable_eval_answer();
    out->set_error(error);
    out->add_shape(batch.shape(0));
    out->add_shape(3);
    std::vector<float> logits;
    for (int64_t i = 0; i < batch.shape(0); ++i) logits.insert(logits.end(), {1.0f, 0.0f, 0.0f});
    out->set_logits(logits.data(), logits.size() * sizeof(float));
    ASSERT_TRUE(channel_->Send(reply).ok());
  };
  auto first = Await([](const auto& m) { return m.has_eval_batch(); });
  EXPECT_EQ(first.eval_batch().version(), "always-0");
  EXPECT_EQ(first.eval_batch().data().size(), size_t{4} * 28 * 28 * sizeof(float));
  answer(first.eval_batch(), "");
  auto second = Await([](const auto& m) { return m.has_eval_batch(); });
  answer(second.eval_batch(), "the engine is gone");
  auto failed = Await([](const auto& m) { return m.has_failed(); });
  EXPECT_THAT(failed.failed().error(), HasSubstr("version 'broken': the engine is gone"));
}

TEST(Score, TakesLogitsAndProbabilities) {
  const std::vector<int32_t> labels = {0, 1};
  Score logits, probabilities;
  ASSERT_TRUE(logits.Add(std::vector<float>{std::log(0.7f), std::log(0.3f), 2, 5}, {2, 2}, labels).ok());
  EXPECT_NEAR(logits.Metrics().metrics().at("loss"), (-std::log(0.7) + std::log1p(std::exp(-3.0))) / 2, 1e-6);
  EXPECT_EQ(logits.Metrics().metrics().at("accuracy"), 1.0);
  ASSERT_TRUE(probabilities.Add(std::vector<float>{0.7f, 0.3f, 0.9f, 0.1f}, {2, 2}, labels).ok());
  EXPECT_NEAR(probabilities.Metrics().metrics().at("loss"), -(std::log(0.7) + std::log(0.1)) / 2, 1e-6);
  EXPECT_EQ(probabilities.Metrics().metrics().at("accuracy"), 0.5);
  EXPECT_EQ(probabilities.Metrics().metrics().at("samples"), 2.0);
}

TEST(Score, WhatIsNoNumberIsAWrongAnswer) {
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> rows = {nan, nan, infinity, 0, 2, 1, 5, nan};
  Score score, certain;
  ASSERT_TRUE(score.Add(rows, {4, 2}, std::vector<int32_t>{0, 0, 0, 0}).ok());
  EXPECT_EQ(score.Metrics().metrics().at("accuracy"), 0.25);
  EXPECT_EQ(score.Metrics().metrics().at("loss"), std::numeric_limits<double>::infinity());
  ASSERT_TRUE(certain.Add(std::vector<float>{0, -infinity}, {1, 2}, std::vector<int32_t>{0}).ok());
  EXPECT_EQ(certain.Metrics().metrics().at("accuracy"), 1.0);
  EXPECT_EQ(certain.Metrics().metrics().at("loss"), 0.0);
}

TEST(Score, RefusesAnswersOfTheWrongShape) {
  Score score;
  EXPECT_FALSE(score.Add(std::vector<float>{1, 2}, {1, 2}, std::vector<int32_t>{0, 1}).ok());
  EXPECT_FALSE(score.Add(std::vector<float>{1, 2, 3}, {2, 2}, std::vector<int32_t>{0, 1}).ok());
  EXPECT_FALSE(score.Add(std::vector<float>{1, 2, 3, 4}, {2, 2}, std::vector<int32_t>{0, 2}).ok());
  EXPECT_FALSE(score.Add(std::vector<float>{}, {2, int64_t{1} << 62}, std::vector<int32_t>{0, 2}).ok());
}

}  // namespace
}  // namespace tandem::training
