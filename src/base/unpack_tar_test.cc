#include "base/unpack_tar.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <string>
#include <string_view>

#include "base/files.h"
#include "base/status.h"
#include "base/test_archive.h"

namespace tandem {
namespace {

using testing::HasSubstr;

class UnpackTarTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "tandem-unpack-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    out_ = folder_ / "out";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  absl::Status Unpack(std::string_view tar, int64_t most_entries = 100, PacedWriter* pace = nullptr) {
    std::filesystem::remove_all(out_);
    std::filesystem::create_directory(out_);
    TANDEM_RETURN_IF_ERROR(WriteFileAtomically(folder_ / "tar", tar));
    PacedWriter unpaced(0);
    return UnpackTar(folder_ / "tar", out_, most_entries, pace == nullptr ? &unpaced : pace);
  }
  std::string Error(std::string_view tar) {
    const absl::Status status = Unpack(tar);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(MessageOf(status));
  }

  std::filesystem::path folder_, out_;
};

TEST_F(UnpackTarTest, UnpacksFilesAndFolders) {
  const std::string large(700'000, 'v');
  const absl::Status status = Unpack(TarEntry("./", "", '5') + TarEntry("empty", "") + TarEntry("train/", "", '5') +
                                     TarEntry("train/cat/1.png", large) + TarEntry("train/dog/1.png", "w") + kTarEnd);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(*ReadFile(out_ / "empty"), "");
  EXPECT_EQ(*ReadFile(out_ / "train/cat/1.png"), large);
  EXPECT_EQ(*ReadFile(out_ / "train/dog/1.png"), "w");
}

TEST_F(UnpackTarTest, ReadsLongNames) {
  const std::string name = "variables/" + std::string(150, 'n');
  const std::string pax = StrCat("170 path=", name, "\n");
  ASSERT_EQ(pax.size(), 170);
  for (const std::string& extra :
       {TarEntry("pax", pax, 'x'), TarEntry("././@LongLink", name + std::string(1, '\0'), 'L')}) {
    const absl::Status status = Unpack(StrCat(extra, TarEntry("cut", "long"), TarEntry("next", "g"), kTarEnd));
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(*ReadFile(out_ / name), "long");
    EXPECT_EQ(*ReadFile(out_ / "next"), "g");
  }
}

TEST_F(UnpackTarTest, RefusesWhatLeadsOutOrIsNoFile) {
  EXPECT_THAT(Error(TarEntry("../evil", "x")), HasSubstr("entry '../evil' of the archive leads out"));
  EXPECT_THAT(Error(TarEntry("a/../../evil", "x")), HasSubstr("leads out"));
  EXPECT_THAT(Error(TarEntry("evil", "x", '0', "..")), HasSubstr("leads out"));
  EXPECT_THAT(Error(TarEntry("/tmp/evil", "x")), HasSubstr("absolute name"));
  EXPECT_THAT(Error(TarEntry("link", "", '2')), HasSubstr("entry 'link' of the archive is a link"));
  EXPECT_THAT(Error(TarEntry("link", "", '1')), HasSubstr("is a link"));
  EXPECT_THAT(Error(TarEntry("null", "", '3')), HasSubstr("is a device"));
  EXPECT_THAT(Error(TarEntry("fifo", "", '6')), HasSubstr("is a pipe"));
  EXPECT_THAT(Error(TarEntry("sparse", "", 'S')), HasSubstr("neither a file nor a folder"));
  EXPECT_THAT(Error(TarEntry("./", "x")), HasSubstr("has no name"));
  EXPECT_FALSE(std::filesystem::exists(out_ / "../evil"));
  const std::string too_long = TarEntry("././@LongLink", std::string(300, 'n') + std::string(1, '\0'), 'L');
  EXPECT_THAT(Error(too_long + TarEntry("cut", "x")), HasSubstr("File name too long"));
  EXPECT_THAT(Error(too_long + TarEntry("cut", "", '5')), HasSubstr("File name too long"));
}

TEST_F(UnpackTarTest, RefusesDamage) {
  EXPECT_THAT(Error(TarEntry("a", "x") + TarEntry("a", "y")), HasSubstr("entry 'a' stands twice"));
  EXPECT_THAT(Error(TarEntry("a", "x") + TarEntry("a/b", "y")), HasSubstr("entry 'a/b'"));
  EXPECT_THAT(Error(TarEntry("a/b", "x") + TarEntry("a", "y")), HasSubstr("entry 'a' stands twice"));
  std::string broken = TarEntry("a", "x");
  broken[3] = 'b';
  EXPECT_THAT(Error(broken), HasSubstr("checksum"));
  EXPECT_THAT(Error(TarHeader("a", '0', 5000) + "short"), HasSubstr("ends in the middle"));
  EXPECT_THAT(Error(TarHeader("a", '0', size_t{1} << 32)), HasSubstr("ends in the middle"));
  EXPECT_THAT(Error(TarEntry("pax", "nonsense", 'x')), HasSubstr("pax record"));
  EXPECT_THAT(Error(TarEntry("pax", "99 path=a\n", 'x')), HasSubstr("pax record"));
  std::string deep;
  for (int i = 0; i < 33; ++i) deep += "d/";
  EXPECT_THAT(Error(TarEntry(deep + "f", "x")), HasSubstr("32 folders deep"));
}

TEST_F(UnpackTarTest, RefusesWhatIsNoTarAndSaysWhatToDo) {
  EXPECT_THAT(Error("\x1f\x8b" + std::string(1000, '\x7f')), HasSubstr("unpack one that is compressed first"));
  EXPECT_THAT(Error("no tar"), HasSubstr("less than 512 bytes"));
}

TEST_F(UnpackTarTest, TakesSoManyEntriesAndNoMore) {
  const std::string two = TarEntry("a", "x") + TarEntry("b", "y");
  EXPECT_TRUE(Unpack(two + kTarEnd, 2).ok());
  EXPECT_EQ(Unpack(two + TarEntry("c", "z"), 2).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(out_ / "b"));
  EXPECT_FALSE(std::filesystem::exists(out_ / "c"));
}

TEST_F(UnpackTarTest, WritesAtTheRateThatItIsGiven) {
  FakeClock clock;
  int64_t slept = 0;
  PacedWriter writer(1e6, &clock, [&](int64_t nanos) {
    slept += nanos;
    clock.AdvanceMillis((nanos + 999'999) / 1'000'000);
  });
  const std::string half(500'000, 'x');
  const absl::Status status = Unpack(TarEntry("one", half) + TarEntry("two", half) + kTarEnd, 100, &writer);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_NEAR(static_cast<double>(slept), 1e9, 0.05e9);
}

}  // namespace
}  // namespace tandem
