#include "daemon/answering_thread.h"

#include <gtest/gtest.h>

#include <future>

namespace tandem::daemon {
namespace {

wire::EvalBatch Batch(const std::string& version) {
  wire::EvalBatch batch;
  batch.set_version(version);
  return batch;
}

class AnsweringThreadTest : public ::testing::Test {
 protected:
  // Answers with the version; a batch of version "hang" is answered when the test releases it.
  AnsweringThread::Run Engine() {
    return [this](const wire::EvalBatch& batch) {
      if (batch.version() == "hang") {
        begun_.set_value();
        release_.get_future().wait();
        ended_.set_value();
      }
      wire::EvalAnswer answer;
      answer.set_logits(batch.version());
      return answer;
    };
  }

  std::promise<void> begun_, release_, ended_;
  std::shared_ptr<std::atomic<int>> left_behind_ = std::make_shared<std::atomic<int>>(0);
};

TEST_F(AnsweringThreadTest, AnswersOneBatchAfterTheOther) {
  {
    AnsweringThread thread(Engine(), left_behind_);
    EXPECT_EQ(thread.Ask(Batch("1")).logits(), "1");
    EXPECT_EQ(thread.Ask(Batch("2")).logits(), "2");
    EXPECT_EQ(thread.Asked(), "");
  }
  EXPECT_EQ(*left_behind_, 0);
}

TEST_F(AnsweringThreadTest, ARunThatHangsIsLeftBehindAndCountedUntilItEnds) {
  {
    AnsweringThread thread(Engine(), left_behind_);
    std::future<wire::EvalAnswer> answer = std::async(std::launch::async, [&] { return thread.Ask(Batch("hang")); });
    begun_.get_future().wait();
    EXPECT_EQ(thread.Asked(), "hang");
    thread.GiveUp();
    EXPECT_EQ(answer.get().error(), "nobody waits for the answer any more");
    EXPECT_EQ(thread.Ask(Batch("2")).error(), "nobody waits for the answer any more");
  }
  EXPECT_EQ(*left_behind_, 1);
  release_.set_value();
  ended_.get_future().wait();
  while (*left_behind_ != 0) std::this_thread::yield();
}

TEST_F(AnsweringThreadTest, NothingIsLeftBehindWhenItIsGivenUpBetweenTwoRuns) {
  {
    AnsweringThread thread(Engine(), left_behind_);
    EXPECT_EQ(thread.Ask(Batch("1")).logits(), "1");
    thread.GiveUp();
    EXPECT_NE(thread.Ask(Batch("2")).error(), "");
  }
  EXPECT_EQ(*left_behind_, 0);
}

}  // namespace
}  // namespace tandem::daemon
