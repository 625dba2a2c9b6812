#include "base/files.h"

#include <gmock/gmock.h>

#include "base/status.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(AtomicFile, AnErrorNamesTheFileThatWasAskedFor) {
  absl::Status status = WriteFileAtomically("/nowhere/at/all/x.onnx", "bytes");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("write '/nowhere/at/all/x.onnx': "));
  EXPECT_THAT(std::string(MessageOf(status)), Not(HasSubstr("tmp"))) << "a name that nobody gave";
}

}  // namespace
}  // namespace tandem
