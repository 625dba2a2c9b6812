#include "serving/request_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "serving/version_metrics.h"

namespace tandem::serving {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RequestQueueTest : public ::testing::Test {
 protected:
  static spec::ModelConfig Merging(int most, std::vector<int> sizes = {}, double delay_ms = 0, bool pad = false) {
    spec::ModelConfig config;
    config.max_batch_size = most;
    config.preferred_batch_sizes = std::move(sizes);
    config.max_queue_delay_ms = delay_ms;
    config.pad = pad;
    return config;
  }
  // A request of `rows` rows of `width`; its text id is its name.
  Request* Make(std::string_view name, int64_t rows = 1, int64_t width = 2) {
    Request& request = requests_.emplace_back();
    request.rows = rows;
    request.sequence.text_id = name;
    request.inputs = {{"x", {DType::kFloat32, {rows, width}, nullptr, 10}}};
    request.waiting.shape_key = ShapeKey(request);
    request.waiting.byte_size = 10;
    request.waiting.order_ns = request.waiting.expires_ns = INT64_MAX;
    request.waiting.arrival_ns = ++time_;
    return &request;
  }
  static std::vector<std::string> Names(const std::vector<Request*>& requests) {
    std::vector<std::string> names;
    for (const Request* request : requests) names.emplace_back(request->sequence.text_id);
    return names;
  }
  static std::vector<std::string> Names(Request* chained) {
    std::vector<Request*> requests;
    for (; chained != nullptr; chained = chained->waiting.after) requests.push_back(chained);
    return Names(requests);
  }
  std::vector<std::string> Take(RequestQueue* queue, int64_t now = 1000) {
    std::vector<Request*> batch;
    queue->TakeBatch(now, &batch, &dropped_);
    return Names(batch);
  }

  std::deque<Request> requests_;
  int64_t time_ = 0;
  Request* dropped_ = nullptr;
};

TEST_F(RequestQueueTest, OrdersByRankThenDeadlineThenArrival) {
  RequestQueue queue{BatchRules({})};
  auto add = [&](std::string_view name, uint32_t rank, int64_t order) {
    Request* request = Make(name);
    request->waiting.rank = rank;
    request->waiting.order_ns = order;
    queue.Add(request);
  };
  add("late", 2, INT64_MAX);
  add("second", 1, 50);
  add("later", 2, INT64_MAX);
  add("third", 1, 60);
  add("first", 1, 40);
  EXPECT_EQ(queue.size(), 5);
  EXPECT_EQ(queue.bytes(), 50u);
  EXPECT_EQ(queue.Last()->sequence.text_id, "later");
  EXPECT_EQ(queue.RowsBefore(*queue.Last()), 5) << "counts itself as waiting already";
  int count = 0;
  size_t bytes = 0;
  queue.CountBehind(1, &count, &bytes);
  EXPECT_EQ(count, 2);
  EXPECT_EQ(bytes, 20u);
  EXPECT_EQ(queue.CountDue(0, 3), 3);
  for (const char* name : {"first", "second", "third", "late", "later"}) EXPECT_THAT(Take(&queue), ElementsAre(name));
  EXPECT_EQ(queue.FirstDue(0), nullptr);
  EXPECT_THAT(Take(&queue), IsEmpty());
}

TEST_F(RequestQueueTest, MergesOneShapeUpToTheMostRows) {
  RequestQueue queue{BatchRules(Merging(4))};
  queue.Add(Make("a", 2));
  queue.Add(Make("other", 1, 3));
  queue.Add(Make("b", 1));
  queue.Add(Make("c", 2));
  EXPECT_EQ(queue.CountDue(0, 9), 2);
  EXPECT_THAT(Take(&queue), ElementsAre("a", "b")) << "c would be the fifth row";
  EXPECT_THAT(Take(&queue), ElementsAre("other"));
  EXPECT_THAT(Take(&queue), ElementsAre("c"));
}

TEST_F(RequestQueueTest, CutsAtAPreferredSizeAndGoesOnWithTheRest) {
  RequestQueue queue{BatchRules(Merging(8, {2, 4}))};
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g"}) queue.Add(Make(name));
  EXPECT_THAT(Take(&queue), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(Take(&queue), ElementsAre("e", "f"));
  EXPECT_THAT(Take(&queue), ElementsAre("g"));
}

TEST_F(RequestQueueTest, WithPaddingTakesAllThatFitsTheLargestSize) {
  BatchRules rules(Merging(16, {4, 8, 99}, 0, true));
  EXPECT_EQ(rules.PaddedRows(1), 4);
  EXPECT_EQ(rules.PaddedRows(4), 4);
  EXPECT_EQ(rules.PaddedRows(5), 8);
  EXPECT_EQ(rules.PaddedRows(9), 9);
  RequestQueue queue(rules);
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) queue.Add(Make(name));
  EXPECT_EQ(Take(&queue).size(), 6u);
  queue.Add(Make("large", 10));
  queue.Add(Make("small", 1));
  EXPECT_THAT(Take(&queue), ElementsAre("large"));
}

TEST_F(RequestQueueTest, ABatchIsDueWhenItIsFullOrItsOldestIsRipe) {
  RequestQueue queue{BatchRules(Merging(3, {}, 1))};
  auto add = [&](const char* name, int64_t ripe) {
    Request* request = Make(name);
    request->waiting.ripe_ns = ripe;
    queue.Add(request);
  };
  add("a", 500);
  add("b", 400);
  EXPECT_EQ(queue.FirstDue(399), nullptr);
  EXPECT_EQ(queue.NextDue(), 400);
  EXPECT_EQ(queue.CountDue(399, 5), 0);
  ASSERT_NE(queue.FirstDue(400), nullptr);
  add("c", 900);
  EXPECT_NE(queue.FirstDue(1), nullptr) << "full";
  add("d", 950);
  EXPECT_THAT(Take(&queue, 1), ElementsAre("a", "b", "c"));
  EXPECT_EQ(queue.FirstDue(900), nullptr);
  EXPECT_EQ(queue.NextDue(), 950);
}

TEST_F(RequestQueueTest, DropsTheCancelledAndTheExpired) {
  RequestQueue queue{BatchRules(Merging(2))};
  std::atomic<bool> gone{true};
  Request* cancelled = Make("cancelled");
  cancelled->cancelled = &gone;
  queue.Add(cancelled);
  queue.Add(Make("a"));
  Request* expiring = Make("expiring", 1, 7);
  expiring->waiting.expires_ns = 70;
  queue.Add(expiring);
  EXPECT_EQ(queue.next_expiry(), 70);
  EXPECT_THAT(Take(&queue), ElementsAre("a"));
  EXPECT_THAT(Names(dropped_), ElementsAre("cancelled"));
  EXPECT_EQ(dropped_->waiting.why_dropped, static_cast<int>(Decision::kCancelled));
  dropped_ = nullptr;
  queue.TakeDead(69, &dropped_);
  EXPECT_EQ(dropped_, nullptr);
  queue.TakeDead(70, &dropped_);
  EXPECT_THAT(Names(dropped_), ElementsAre("expiring"));
  EXPECT_EQ(dropped_->waiting.why_dropped, static_cast<int>(Decision::kExpired));
  EXPECT_EQ(queue.size(), 0);
  EXPECT_EQ(queue.bytes(), 0u);
  EXPECT_EQ(queue.next_expiry(), INT64_MAX);
}

TEST_F(RequestQueueTest, HeldRequestsAreNotDueUntilTheyAreReleased) {
  RequestQueue queue{BatchRules(Merging(4))};
  auto* sequence = reinterpret_cast<OpenSequence*>(&queue);  // only its address counts
  for (const char* name : {"a", "b"}) {
    Request* request = Make(name);
    request->waiting.held = true;
    request->waiting.sequence = sequence;
    queue.Add(request);
  }
  EXPECT_EQ(queue.FirstDue(0), nullptr);
  EXPECT_EQ(queue.NextDue(), INT64_MAX);
  EXPECT_EQ(queue.size(), 2);
  EXPECT_EQ(queue.FirstHeld(nullptr), nullptr);
  Request* first = queue.FirstHeld(sequence);
  ASSERT_EQ(first->sequence.text_id, "a");
  queue.Release(first);
  EXPECT_THAT(Take(&queue), ElementsAre("a"));
  EXPECT_EQ(queue.FirstHeld(sequence)->sequence.text_id, "b");
  queue.Remove(queue.FirstHeld(sequence));
  EXPECT_EQ(queue.size(), 0);
}

TEST_F(RequestQueueTest, AgreesWithAListThatIsSortedEveryTime) {
  RequestQueue queue{BatchRules({})};
  std::vector<Request*> list;
  uint64_t state = 7;
  auto random = [&] { return (state = state * 6364136223846793005u + 1442695040888963407u) >> 33; };
  for (int step = 0; step < 3000; ++step) {
    if (list.empty() || random() % 5 < 3) {
      Request* request = Make("r");
      request->waiting.rank = static_cast<uint32_t>(random() % 4);
      request->waiting.order_ns = static_cast<int64_t>(random() % 10);
      queue.Add(request);
      list.push_back(request);
      continue;
    }
    std::stable_sort(list.begin(), list.end(), [](auto* a, auto* b) { return IsBefore(*a, *b); });
    EXPECT_EQ(queue.Last(), list.back());
    EXPECT_EQ(queue.RowsBefore(*list.front()), 1) << "itself";
    Request* victim = list[random() % list.size()];
    if (step % 2 == 0) {
      ASSERT_EQ(queue.FirstDue(0), list.front());
      victim = list.front();
    }
    queue.Remove(victim);
    std::erase(list, victim);
    EXPECT_EQ(queue.size(), static_cast<int>(list.size()));
  }
}

}  // namespace
}  // namespace tandem::serving
