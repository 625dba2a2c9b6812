#include "serving/response_cache.h"

#include <gtest/gtest.h>

namespace tandem::serving {
namespace {

std::vector<Tensor> Answer(size_t bytes) {
  std::vector<Tensor> outputs(1);
  outputs[0].buffer.Resize(bytes);
  return outputs;
}

TEST(ResponseCache, DropsTheLeastRecentlyUsed) {
  ResponseCache cache(3 * 2048);
  for (const char* key : {"a", "b", "c"}) cache.Insert(key, Answer(1024));
  EXPECT_NE(cache.Find("a"), nullptr);
  ResponseCache::Answer held = cache.Find("b");
  cache.Find("a");
  cache.Find("c");
  cache.Insert("d", Answer(1024));
  EXPECT_EQ(cache.Find("b"), nullptr);
  EXPECT_EQ((*held)[0].buffer.size(), 1024u) << "what is in use stays";
  EXPECT_NE(cache.Find("a"), nullptr);
  EXPECT_NE(cache.Find("d"), nullptr);
  EXPECT_EQ(cache.bytes(), 3 * 2048);
}

TEST(ResponseCache, KeepsNoAnswerThatIsLargerThanItself) {
  ResponseCache cache(4096);
  cache.Insert("small", Answer(100));
  cache.Insert("large", Answer(4096));
  EXPECT_EQ(cache.Find("large"), nullptr);
  EXPECT_NE(cache.Find("small"), nullptr);
}

TEST(ResponseCache, AnAnswerThatIsThereStays) {
  ResponseCache cache(1 << 20);
  cache.Insert("a", Answer(1));
  cache.Insert("a", Answer(2));
  EXPECT_EQ((*cache.Find("a"))[0].buffer.size(), 1u);
}

TEST(ResponseCache, KeysDifferByLoadTypeShapeAndBytes) {
  alignas(64) int32_t data[2] = {1, 2};
  Request request;
  request.inputs = {{"x", {DType::kInt32, {2, 1}, data, 8}}};
  const std::string key = ResponseCache::KeyOf(1, request);
  EXPECT_EQ(ResponseCache::KeyOf(1, request), key);
  EXPECT_NE(ResponseCache::KeyOf(2, request), key);
  request.inputs[0].view.shape = {1, 2};
  EXPECT_NE(ResponseCache::KeyOf(1, request), key);
  request.inputs[0].view.shape = {2, 1};
  request.inputs[0].view.dtype = DType::kUint32;
  EXPECT_NE(ResponseCache::KeyOf(1, request), key);
  request.inputs[0].view.dtype = DType::kInt32;
  data[1] = 3;
  EXPECT_NE(ResponseCache::KeyOf(1, request), key);
}

}  // namespace
}  // namespace tandem::serving
