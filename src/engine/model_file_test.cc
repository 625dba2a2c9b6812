#include "engine/model_file.h"

#include <gmock/gmock.h>

#include "base/files.h"
#include "base/status.h"
#include "base/test_archive.h"
#include "engine/testing.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

class ModelFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::filesystem::path> Unpack(std::string_view tar) {
    std::filesystem::remove_all(folder_ / "out");
    std::filesystem::create_directory(folder_ / "out");
    PacedWriter unpaced(0);
    return UnpackSavedModel(folder_.Write("model.tar", tar), folder_ / "out", &unpaced);
  }
  std::string Error(std::string_view tar) {
    absl::Status status = Unpack(tar).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(MessageOf(status));
  }
  testing::TempFolder folder_;
};

TEST_F(ModelFileTest, TellsFormatsByTheirFirstBytes) {
  EXPECT_EQ(*FormatOf(folder_.Write("a", "\x08\x07")), kOnnx);
  EXPECT_EQ(*FormatOf(folder_.Write("b", "")), kOnnx);
  EXPECT_EQ(*FormatOf(folder_.Write("c", std::string("\x1c\0\0\0TFL3", 8))), kTflite);
  EXPECT_EQ(*FormatOf(folder_.Write("d", "\x0a\x05\x0a\x03one")), kFrozenGraph);
  EXPECT_EQ(*FormatOf(folder_.Write("d2", "\x0a\x85\x01\x0a\x03one")), kFrozenGraph);
  EXPECT_EQ(*FormatOf(folder_.Write("d3", "\x0a\x05words\x08\x08")), kOnnx) << "a field that readers skip";
  EXPECT_EQ(*FormatOf(folder_.Write("e", TarEntry("saved_model.pb", "x"))), kSavedModel);
  EXPECT_EQ(*FormatOf(folder_ / ""), kSavedModel);
  EXPECT_EQ(FormatOf(folder_ / "missing").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelFileTest, UnpacksFilesAndFolders) {
  const std::string large(200'000, 'v');
  auto root = Unpack(TarEntry("./", "", '5') + TarEntry("saved_model.pb", "graph") + TarEntry("variables/", "", '5') +
                     TarEntry("variables/variables.index", large) + TarEntry("empty", "") + kTarEnd);
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(*root, folder_ / "out");
  EXPECT_EQ(*ReadFile(*root / "saved_model.pb"), "graph");
  EXPECT_EQ(*ReadFile(*root / "variables/variables.index"), large);
  EXPECT_EQ(*ReadFile(*root / "empty"), "");
}

TEST_F(ModelFileTest, FindsTheModelInTheOnlyFolderThere) {
  EXPECT_EQ(*Unpack(TarEntry("saved_model.pb", "g", '0', "net/1") + TarEntry("net/saved_model.pb", "g") + kTarEnd),
            folder_ / "out" / "net");
  EXPECT_THAT(Error(TarEntry("a/saved_model.pb", "") + TarEntry("b/saved_model.pb", "") + kTarEnd),
              HasSubstr("more than one"));
  EXPECT_THAT(Error(TarEntry("a/b/saved_model.pb", "") + kTarEnd), HasSubstr("has no saved_model.pb"));
  EXPECT_THAT(Error(kTarEnd), HasSubstr("has no saved_model.pb"));
}

TEST_F(ModelFileTest, RefusesWhatUnpackTarRefusesAndMoreThan10000Entries) {
  EXPECT_THAT(Error(TarEntry("saved_model.pb", "g") + TarEntry("link", "", '2')), HasSubstr("is a link"));
  std::string many;
  for (int i = 0; i <= 10'000; ++i) many += TarHeader("d", '5', 0);
  EXPECT_THAT(Error(many), HasSubstr("more than 10000 entries"));
}

}  // namespace
}  // namespace tandem::engine
