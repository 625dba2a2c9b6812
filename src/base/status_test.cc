#include "base/status.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(RetryAfter, StaysWithTheStatusAndItsAnnotations) {
  absl::Status status = WithRetryAfter(Unavailable("full"), 0.25);
  EXPECT_EQ(status.message(), "full");
  EXPECT_EQ(RetryAfterOf(status), 0.25);
  EXPECT_EQ(RetryAfterOf(Annotate(status, "model")), 0.25);
  EXPECT_EQ(RetryAfterOf(Unavailable("full")), 0);
  EXPECT_EQ(RetryAfterOf(WithRetryAfter(Unavailable("full"), 0)), 0);
  EXPECT_EQ(RetryAfterOf(WithRetryAfter(absl::OkStatus(), 1)), 0);
}

}  // namespace
}  // namespace tandem
