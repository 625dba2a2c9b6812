#include "telemetry/published.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

struct Value {
  explicit Value(int n) : number(n), check(-n) { ++alive; }
  ~Value() {
    check = 1;
    --alive;
  }
  int number, check;
  static inline std::atomic<int> alive{0};
};

TEST(Published, ReadersNeverSeeADestroyedValue) {
  Published<Value> published(std::make_unique<const Value>(0));
  std::atomic<bool> stop{false};
  std::atomic<int> broken{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      while (!stop) published.Read([&](const Value& value) { broken += value.check != -value.number; });
    });
  }
  for (int n = 1; n <= 500; ++n) published.Replace(std::make_unique<const Value>(n));
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(broken, 0);
  EXPECT_EQ(Value::alive, 1);
}

TEST(Published, AReplacedValueIsDestroyedAtOnceThoughReadersAreIdle) {
  Published<Value> published(std::make_unique<const Value>(1));
  std::thread([&] { published.Read([](const Value&) {}); }).join();
  published.Read([](const Value&) {});
  published.Replace(std::make_unique<const Value>(2));
  EXPECT_EQ(Value::alive, 1);
}

}  // namespace
}  // namespace tandem
