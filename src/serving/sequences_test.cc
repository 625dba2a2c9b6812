#include "serving/sequences.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "serving/testing.h"

namespace tandem::serving {
namespace {

using testing::Call;
using testing::Copy;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Served;

const std::vector<TensorSignature> kInputs = {{"x", DType::kFloat32, {-1, 1}},
                                              {"START", DType::kInt32, {-1, 1}},
                                              {"END", DType::kBool, {-1, 1}},
                                              {"CORRID", DType::kUint64, {-1, 1}},
                                              {"sum_in", DType::kFloat32, {-1, 1}}};
const std::vector<TensorSignature> kOutputs = {
    {"sum_out", DType::kFloat32, {-1, 1}}, {"total", DType::kFloat32, {-1, 1}}, {"told", DType::kFloat32, {-1, 3}}};

// Adds up what a sequence sends: total = sum_out = x + sum_in; told = start, end, id. Fails when x is -1.
absl::Status Accumulate(const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
  const int64_t rows = in[0].shape[0];
  out->resize(3);
  Copy(in[0], "sum_out", &(*out)[0]);
  for (int64_t row = 0; row < rows; ++row) {
    const float x = static_cast<const float*>(in[0].data)[row];
    if (x == -1) return InvalidArgument("-1 is no value");
    (*out)[0].As<float>()[row] = x + static_cast<const float*>(in[4].data)[row];
  }
  Copy({DType::kFloat32, (*out)[0].shape, (*out)[0].buffer.data(), (*out)[0].buffer.size()}, "total", &(*out)[1]);
  Tensor& told = (*out)[2];
  told.name = "told";
  told.dtype = DType::kFloat32;
  told.shape = {rows, 3};
  told.buffer.Resize(12 * rows);
  for (int64_t row = 0; row < rows; ++row) {
    told.As<float>()[3 * row] = static_cast<float>(static_cast<const int32_t*>(in[1].data)[row]);
    told.As<float>()[3 * row + 1] = static_cast<float>(static_cast<const uint8_t*>(in[2].data)[row]);
    told.As<float>()[3 * row + 2] = static_cast<float>(static_cast<const uint64_t*>(in[3].data)[row]);
  }
  return absl::OkStatus();
}

spec::ModelConfig Config(const std::string& strategy) {
  spec::ModelConfig config;
  config.max_batch_size = 8;
  config.sequence.strategy = strategy;
  config.sequence.controls = {{"START", "start"}, {"END", "end"}, {"CORRID", "id"}};
  config.sequence.states = {{"sum_in", "sum_out"}};
  return config;
}

class SequencesTest : public ::testing::Test {
 protected:
  Served Serve(spec::ModelConfig config) {
    auto run = [this](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
      runs_.push_back(in[0].shape[0]);
      return Accumulate(in, out);
    };
    return Served(std::move(config), run, &clock_, nullptr, kInputs, kOutputs);
  }
  Call& Send(Served* model, uint64_t id, float x, bool start = false, bool end = false) {
    Call& call = *calls_.emplace_back(std::make_unique<Call>(std::vector<float>{x}));
    call.request.sequence = {id, "", start, end};
    (*model)->Submit(&call.request);
    return call;
  }

  FakeClock clock_;
  std::vector<int64_t> runs_;
  std::vector<std::unique_ptr<Call>> calls_;
};

TEST_F(SequencesTest, ClientsSeeNeitherControlsNorStates) {
  Served model = Serve(Config("oldest"));
  ASSERT_TRUE(model.made.ok()) << model.made.status();
  ASSERT_EQ(model->inputs().size(), 1u);
  EXPECT_EQ(model->inputs()[0].name, "x");
  ASSERT_EQ(model->outputs().size(), 2u);
  EXPECT_EQ(model->outputs()[0].name, "total");
}

TEST_F(SequencesTest, KeepsTheStateOfEachAndBatchesAcrossThem) {
  Served model = Serve(Config("oldest"));
  runs_.clear();
  Call& a1 = Send(&model, 7, 1, true);
  Call& b1 = Send(&model, 8, 10, true);
  Call& a2 = Send(&model, 7, 2);
  Call& a3 = Send(&model, 7, 3, false, true);
  Call& b2 = Send(&model, 8, 20, false, true);
  EXPECT_EQ(model->ReadLoad().waiting, 5);
  model.RunAll();
  EXPECT_THAT(runs_, ElementsAre(2, 2, 1)) << "a sequence has one request in a batch";
  EXPECT_THAT(a1.Answer(), ElementsAre(1));
  EXPECT_THAT(a2.Answer(), ElementsAre(3));
  EXPECT_THAT(a3.Answer(), ElementsAre(6));
  EXPECT_THAT(b1.Answer(), ElementsAre(10));
  EXPECT_THAT(b2.Answer(), ElementsAre(30));
  EXPECT_THAT(a1.Answer(1), ElementsAre(1, 0, 7));
  EXPECT_THAT(a2.Answer(1), ElementsAre(0, 0, 7));
  EXPECT_THAT(a3.Answer(1), ElementsAre(0, 1, 7));
  EXPECT_EQ(a1.request.outputs.size(), 2u);
  EXPECT_EQ(model->ReadLoad().waiting, 0);
  Call& over = Send(&model, 7, 1);
  EXPECT_EQ(over.request.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(over.request.status.message()), HasSubstr("sequence '7' did not start, or ended"));
}

TEST_F(SequencesTest, DirectRunsEachSequenceAlone) {
  Served model = Serve(Config("direct"));
  runs_.clear();
  Send(&model, 1, 1, true);
  Send(&model, 2, 1, true);
  Call& last = Send(&model, 1, 5);
  model.RunAll();
  EXPECT_THAT(runs_, ElementsAre(1, 1, 1));
  EXPECT_THAT(last.Answer(), ElementsAre(6));
}

TEST_F(SequencesTest, AModelThatDoesNotBatchServesSequencesToo) {
  spec::ModelConfig config = Config("direct");
  config.max_batch_size = 0;
  Served model = Serve(config);
  Send(&model, 1, 1, true);
  Call& last = Send(&model, 1, 5, false, true);
  model.RunAll();
  EXPECT_THAT(last.Answer(), ElementsAre(6));
}

TEST_F(SequencesTest, TheResponseCacheIsLeftOut) {
  spec::ModelConfig config = Config("oldest");
  config.response_cache = true;
  Served model = Serve(config);
  Send(&model, 1, 1, true);
  Send(&model, 1, 1);
  Call& last = Send(&model, 1, 1);
  model.RunAll();
  EXPECT_THAT(last.Answer(), ElementsAre(3));
}

TEST_F(SequencesTest, AStartBeginsAgainFromZero) {
  Served model = Serve(Config("oldest"));
  Send(&model, 1, 5, true);
  Call& again = Send(&model, 1, 2, true);
  Call& next = Send(&model, 1, 3);
  model.RunAll();
  EXPECT_THAT(again.Answer(), ElementsAre(2));
  EXPECT_THAT(next.Answer(), ElementsAre(5));
}

TEST_F(SequencesTest, ARequestBehindTheEndNeedsAStart) {
  Served model = Serve(Config("oldest"));
  Send(&model, 1, 5, true, true);
  Call& lost = Send(&model, 1, 2);
  Call& start = Send(&model, 1, 3, true);
  Call& next = Send(&model, 1, 4);
  model.RunAll();
  EXPECT_EQ(lost.request.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(start.Answer(), ElementsAre(3));
  EXPECT_THAT(next.Answer(), ElementsAre(7));
  EXPECT_EQ(model.Count(Decision::kSequence), 1u);
}

TEST_F(SequencesTest, AFailureInTheMiddleKeepsTheStateAndAFailedStartEndsTheSequence) {
  Served model = Serve(Config("oldest"));
  Send(&model, 1, 5, true);
  Call& failed = Send(&model, 1, -1);
  Call& next = Send(&model, 1, 2);
  Call& other = Send(&model, 2, -1, true);
  Call& lost = Send(&model, 2, 1);
  model.RunAll();
  EXPECT_EQ(failed.request.status.message(), "-1 is no value");
  EXPECT_THAT(next.Answer(), ElementsAre(7));
  EXPECT_EQ(other.request.status.message(), "-1 is no value");
  EXPECT_FALSE(lost.request.status.ok());
  EXPECT_FALSE(Send(&model, 2, 1).request.status.ok());
}

TEST_F(SequencesTest, ACancelledStartTakesTheRestWithIt) {
  Served model = Serve(Config("oldest"));
  std::atomic<bool> gone{true};
  Call start({1});
  start.request.sequence = {4, "", true, false};
  start.request.cancelled = &gone;
  model->Submit(&start.request);
  Call& next = Send(&model, 4, 1);
  Call& fresh = Send(&model, 4, 2, true);
  model.RunAll();
  EXPECT_EQ(start.request.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(next.request.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(fresh.Answer(), ElementsAre(2));
}

TEST_F(SequencesTest, AllRequestsOfASequenceMayExpireTogether) {
  Served model = Serve(Config("oldest"));
  const int64_t deadline = clock_.MonotonicNanos() + 5'000'000;
  std::vector<std::unique_ptr<Call>> calls;
  for (bool start : {true, false, true, false}) {
    Call& call = *calls.emplace_back(std::make_unique<Call>(std::vector<float>{1}));
    call.request.sequence = {4, "", start, !start};
    call.request.deadline_nanos = deadline;
    model->Submit(&call.request);
  }
  clock_.AdvanceMillis(5);
  model.RunAll();
  for (const auto& call : calls) EXPECT_EQ(call->request.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(model->ReadLoad().waiting, 0);
  Call& fresh = Send(&model, 4, 2, true);
  model.RunAll();
  EXPECT_THAT(fresh.Answer(), ElementsAre(2));
}

TEST_F(SequencesTest, TooManyOpenSequencesAreRefusedUntilOneIsIdle) {
  spec::ModelConfig config = Config("oldest");
  config.sequence.max_candidates = 1;
  config.sequence.max_idle_s = 10;
  Served model = Serve(config);
  Send(&model, 1, 1, true);
  model.RunAll();
  Call& refused = Send(&model, 2, 1, true);
  EXPECT_EQ(refused.request.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_GT(RetryAfterOf(refused.request.status), 0);
  clock_.AdvanceMillis(10'001);
  EXPECT_FALSE(Send(&model, 1, 1).request.status.ok()) << "it was silent for too long";
  Call& taken = Send(&model, 2, 1, true);
  model.RunAll();
  EXPECT_TRUE(taken.request.status.ok());
}

TEST_F(SequencesTest, WrongRequestsSayWhatASequenceNeeds) {
  Served model = Serve(Config("oldest"));
  EXPECT_THAT(std::string(Send(&model, 0, 1, true).request.status.message()),
              HasSubstr("give the parameter sequence_id"));
  Call text({1}), large({1, 2});
  text.request.sequence = {0, "abc", true, false};
  model->Submit(&text.request);
  EXPECT_THAT(std::string(text.request.status.message()), HasSubstr("must be a number"));
  large.request.sequence = {1, "", true, false};
  model->Submit(&large.request);
  EXPECT_THAT(std::string(large.request.status.message()), HasSubstr("one of a sequence must have 1"));
}

TEST_F(SequencesTest, TheBackgroundRunsASequenceOfOne) {
  Served model = Serve(Config("oldest"));
  Call call({3});
  std::vector<Tensor> outputs;
  absl::Status status = model->RunInBackground(call.request.inputs, &outputs);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(outputs[0].As<float>()[0], 3);
}

TEST(SequenceLayout, NamesWhatDoesNotFitTheModel) {
  auto message = [](auto change) {
    spec::ModelConfig config = Config("oldest");
    change(&config.sequence);
    return std::string(SequenceLayout::Create("m", config, kInputs, kOutputs).status().message());
  };
  EXPECT_THAT(message([](auto* s) { s->controls[0].input = "STRAT"; }),
              HasSubstr("no input 'STRAT'; did you mean 'START'"));
  EXPECT_THAT(message([](auto* s) { s->controls[0].kind = "begin"; }), HasSubstr("kind 'begin' is not one of"));
  EXPECT_THAT(message([](auto* s) { s->controls[0].input = "CORRID"; }), HasSubstr("must be BOOL, INT32 or FP32"));
  EXPECT_THAT(message([](auto* s) { s->controls[2].input = "x"; }), HasSubstr("of kind id is FP32"));
  EXPECT_THAT(message([](auto* s) { s->states[0].output = "nosuch"; }), HasSubstr("no output 'nosuch'"));
  EXPECT_THAT(message([](auto* s) { s->states[0].input = "END"; }), HasSubstr("both must be of one numeric type"));
}

TEST(ControlValue, TakesTheFormOfTheInput) {
  Request request;
  request.sequence = {258, "", true, false};
  using enum SequenceLayout::Source;
  EXPECT_EQ(ControlValue(kStart, DType::kBool, request), std::string("\1", 1));
  EXPECT_EQ(ControlValue(kEnd, DType::kFloat32, request), std::string(4, '\0'));
  EXPECT_EQ(ControlValue(kReady, DType::kInt32, request), std::string("\1\0\0\0", 4));
  EXPECT_EQ(ControlValue(kId, DType::kInt64, request), std::string("\2\1\0\0\0\0\0\0", 8));
  EXPECT_EQ(ControlValue(kId, DType::kString, request), std::string("\3\0\0\0"
                                                                    "258",
                                                                    7));
  request.sequence.text_id = "abcd";
  EXPECT_EQ(ControlValue(kId, DType::kString, request), std::string("\4\0\0\0"
                                                                    "abcd",
                                                                    8));
}

}  // namespace
}  // namespace tandem::serving
