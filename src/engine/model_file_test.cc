#include "engine/model_file.h"

#include <gmock/gmock.h>

#include "absl/strings/str_format.h"
#include "base/files.h"
#include "base/status.h"
#include "engine/testing.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

std::string Block(std::string_view name, char type, size_t size, std::string_view prefix = "") {
  std::string block(512, '\0');
  auto put = [&](size_t at, std::string_view text) { block.replace(at, text.size(), text); };
  put(0, name);
  put(124, absl::StrFormat("%011o", size));
  put(148, "        ");
  block[156] = type;
  put(257, std::string_view("ustar\00000", 8));
  put(345, prefix);
  unsigned sum = 0;
  for (unsigned char c : block) sum += c;
  put(148, absl::StrFormat("%06o", sum));
  block[154] = '\0';
  return block;
}
std::string Entry(std::string_view name, std::string_view data, char type = '0', std::string_view prefix = "") {
  std::string entry = Block(name, type, data.size(), prefix) + std::string(data);
  entry.resize((entry.size() + 511) / 512 * 512);
  return entry;
}
const std::string kEnd(1024, '\0');

class ModelFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::filesystem::path> Unpack(std::string_view tar) {
    std::filesystem::remove_all(folder_ / "out");
    std::filesystem::create_directory(folder_ / "out");
    return UnpackSavedModel(folder_.Write("model.tar", tar), folder_ / "out");
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
  EXPECT_EQ(*FormatOf(folder_.Write("e", Entry("saved_model.pb", "x"))), kSavedModel);
  EXPECT_EQ(*FormatOf(folder_ / ""), kSavedModel);
  EXPECT_EQ(FormatOf(folder_ / "missing").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelFileTest, UnpacksFilesAndFolders) {
  const std::string large(200'000, 'v');
  auto root = Unpack(Entry("./", "", '5') + Entry("saved_model.pb", "graph") + Entry("variables/", "", '5') +
                     Entry("variables/variables.index", large) + Entry("empty", "") + kEnd);
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(*root, folder_ / "out");
  EXPECT_EQ(*ReadFile(*root / "saved_model.pb"), "graph");
  EXPECT_EQ(*ReadFile(*root / "variables/variables.index"), large);
  EXPECT_EQ(*ReadFile(*root / "empty"), "");
}

TEST_F(ModelFileTest, FindsTheModelInTheOnlyFolderThere) {
  EXPECT_EQ(*Unpack(Entry("saved_model.pb", "g", '0', "net/1") + Entry("net/saved_model.pb", "g") + kEnd),
            folder_ / "out" / "net");
  EXPECT_THAT(Error(Entry("a/saved_model.pb", "") + Entry("b/saved_model.pb", "") + kEnd), HasSubstr("more than one"));
  EXPECT_THAT(Error(Entry("a/b/saved_model.pb", "") + kEnd), HasSubstr("has no saved_model.pb"));
  EXPECT_THAT(Error(kEnd), HasSubstr("has no saved_model.pb"));
}

TEST_F(ModelFileTest, ReadsLongNames) {
  const std::string name = "variables/" + std::string(150, 'n');
  const std::string pax = StrCat("170 path=", name, "\n");
  ASSERT_EQ(pax.size(), 170);
  for (const std::string& extra : {Entry("pax", pax, 'x'), Entry("././@LongLink", name + std::string(1, '\0'), 'L')}) {
    auto root = Unpack(extra + Entry("cut", "long") + Entry("saved_model.pb", "g") + kEnd);
    ASSERT_TRUE(root.ok()) << root.status();
    EXPECT_EQ(*ReadFile(*root / name), "long");
    EXPECT_EQ(*ReadFile(*root / "saved_model.pb"), "g");
  }
}

TEST_F(ModelFileTest, RefusesWhatLeadsOutOrIsNoFile) {
  EXPECT_THAT(Error(Entry("../evil", "x")), HasSubstr("entry '../evil' of the archive leads out"));
  EXPECT_THAT(Error(Entry("a/../../evil", "x")), HasSubstr("leads out"));
  EXPECT_THAT(Error(Entry("evil", "x", '0', "..")), HasSubstr("leads out"));
  EXPECT_THAT(Error(Entry("/tmp/evil", "x")), HasSubstr("absolute name"));
  EXPECT_THAT(Error(Entry("link", "", '2')), HasSubstr("entry 'link' of the archive is a link"));
  EXPECT_THAT(Error(Entry("link", "", '1')), HasSubstr("is a link"));
  EXPECT_THAT(Error(Entry("null", "", '3')), HasSubstr("is a device"));
  EXPECT_THAT(Error(Entry("fifo", "", '6')), HasSubstr("is a pipe"));
  EXPECT_THAT(Error(Entry("sparse", "", 'S')), HasSubstr("neither a file nor a folder"));
  EXPECT_THAT(Error(Entry("./", "x")), HasSubstr("has no name"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "evil"));
}

TEST_F(ModelFileTest, RefusesDamage) {
  EXPECT_THAT(Error(Entry("a", "x") + Entry("a", "y")), HasSubstr("entry 'a' stands twice"));
  EXPECT_THAT(Error(Entry("a", "x") + Entry("a/b", "y")), HasSubstr("entry 'a/b'"));
  EXPECT_THAT(Error(Entry("a/b", "x") + Entry("a", "y")), HasSubstr("entry 'a' stands twice"));
  std::string broken = Entry("a", "x");
  broken[3] = 'b';
  EXPECT_THAT(Error(broken), HasSubstr("checksum"));
  EXPECT_THAT(Error(Block("a", '0', 5000) + "short"), HasSubstr("ends in the middle"));
  EXPECT_THAT(Error(Block("a", '0', size_t{1} << 32)), HasSubstr("ends in the middle"));
  EXPECT_THAT(Error(Entry("pax", "nonsense", 'x')), HasSubstr("pax record"));
  EXPECT_THAT(Error(Entry("pax", "99 path=a\n", 'x')), HasSubstr("pax record"));
  std::string deep;
  for (int i = 0; i < 33; ++i) deep += "d/";
  EXPECT_THAT(Error(Entry(deep + "f", "x")), HasSubstr("32 folders deep"));
  std::string many;
  for (int i = 0; i <= 10'000; ++i) many += Block("d", '5', 0);
  EXPECT_THAT(Error(many), HasSubstr("more than 10000 entries"));
}

}  // namespace
}  // namespace tandem::engine
