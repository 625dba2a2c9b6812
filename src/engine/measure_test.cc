#include "engine/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/status.h"
#include "engine/difference.h"
#include "engine/testing.h"

namespace tandem::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using testing::TempFolder;
using ::testing::UnorderedElementsAre;

const std::vector<TensorSignature> kImages = {{"image", DType::kFloat32, {-1, 3, -1, -1}}};

template <typename T>
std::vector<T> ValuesOf(const wire::SampleTensor& tensor) {
  std::vector<T> values(tensor.data().size() / sizeof(T));
  std::memcpy(values.data(), tensor.data().data(), tensor.data().size());
  return values;
}

template <typename T>
wire::Sample SampleOf(DType dtype, const std::vector<T>& values, const std::string& name = "y") {
  wire::Sample sample;
  sample.set_rows(1);
  AddTensor({name, dtype, {static_cast<int64_t>(values.size())}},
            {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)}, &sample);
  return sample;
}

// --- samples ---

TEST(MakeSamples, GivesSingleRowsAndOneBatchOfNumbersFromZeroToOne) {
  wire::Samples samples = *MakeSamples(kImages, 8, 5);
  ASSERT_EQ(samples.samples_size(), kSingleRuns + 1);
  EXPECT_EQ(samples.source(), "made");
  for (const wire::Sample& sample : samples.samples()) {
    EXPECT_THAT(sample.tensors(0).shape(), ElementsAre(sample.rows(), 3, 5, 5));
    for (float value : ValuesOf<float>(sample.tensors(0))) ASSERT_TRUE(value >= 0 && value < 1) << value;
  }
  EXPECT_EQ(samples.samples(0).rows(), 1);
  EXPECT_EQ(samples.samples(kSingleRuns).rows(), 8);
  EXPECT_NE(samples.samples(0).tensors(0).data(), samples.samples(1).tensors(0).data());
  EXPECT_EQ(samples.SerializeAsString(), MakeSamples(kImages, 8, 5)->SerializeAsString()) << "seeded";
}

TEST(MakeSamples, WholeNumbersMayBeIndicesAndTextsAreReadable) {
  wire::Samples samples = *MakeSamples({{"ids", DType::kInt64, {-1, 16}}, {"words", DType::kString, {-1, 2}}}, 1, 1);
  ASSERT_EQ(samples.samples_size(), kSingleRuns);
  for (int64_t id : ValuesOf<int64_t>(samples.samples(0).tensors(0))) EXPECT_TRUE(id == 0 || id == 1) << id;
  const std::string& words = samples.samples(0).tensors(1).data();
  ASSERT_EQ(words.size(), 2 * (sizeof(uint32_t) + 4));
  EXPECT_EQ(words.substr(0, 4), std::string("\4\0\0\0", 4));
  EXPECT_TRUE(islower(words[4]));
}

TEST(MakeSamples, HalvesAreNumbersFromZeroToOneToo) {
  for (DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    wire::Samples samples = *MakeSamples({{"x", dtype, {64}}}, 1, 1);
    for (uint16_t bits : ValuesOf<uint16_t>(samples.samples(0).tensors(0))) {
      EXPECT_LT(bits, dtype == DType::kFloat16 ? 0x3c00 : 0x3f80) << "below one, and not negative";
    }
  }
}

TEST(MakeSamples, AFixedFirstDimensionAllowsNoOtherBatch) {
  EXPECT_EQ(MakeSamples({{"x", DType::kFloat32, {4, 2}}}, 8, 1)->samples_size(), kSingleRuns);
  EXPECT_EQ(MakeSamples({{"x", DType::kFloat32, {-1}}, {"y", DType::kInt32, {2}}}, 8, 1)->samples_size(), kSingleRuns);
}

TEST(MakeSamples, AreBounded) {
  EXPECT_TRUE(absl::IsResourceExhausted(MakeSamples({{"x", DType::kFloat32, {-1, 1 << 26}}}, 8, 1).status()));
  EXPECT_TRUE(
      absl::IsResourceExhausted(MakeSamples({{"x", DType::kFloat32, {1 << 20, 1 << 20, 1 << 20}}}, 8, 1).status()));
  wire::Samples fewer = *MakeSamples({{"x", DType::kFloat32, {-1, 1 << 20}}}, 64, 1);
  EXPECT_EQ(fewer.samples(kSingleRuns).rows(), 12) << "64 MiB, less the single rows";
}

TEST(Samples, AFileThatDoesNotFitItsShapesIsRefused) {
  TempFolder folder;
  wire::Samples samples = *MakeSamples(kImages, 2, 4);
  ASSERT_TRUE(WriteSamples(folder / "samples", samples).ok());
  EXPECT_EQ(ReadSamples(folder / "samples")->SerializeAsString(), samples.SerializeAsString());
  samples.mutable_samples(0)->mutable_tensors(0)->mutable_data()->pop_back();
  ASSERT_TRUE(WriteSamples(folder / "samples", samples).ok());
  EXPECT_THAT(std::string(ReadSamples(folder / "samples").status().message()), HasSubstr("'image'"));
}

// --- differences ---

wire::Measurement Difference(const wire::Sample& reference, const wire::Sample& actual) {
  wire::Measurement found;
  AddDifference(reference, actual, &found);
  return found;
}

TEST(Difference, IsMeasuredAgainstTheScaleOfTheOutput) {
  const wire::Sample reference = SampleOf<float>(DType::kFloat32, {0.5F, -100});
  wire::Measurement found = Difference(reference, SampleOf<float>(DType::kFloat32, {1, -100}));
  EXPECT_DOUBLE_EQ(found.max_difference(), 0.5);
  EXPECT_DOUBLE_EQ(found.relative_difference(), 0.005);
  EXPECT_TRUE(found.compared());
  EXPECT_THAT(found.mismatch(), IsEmpty());
}

TEST(Difference, HalvesAreRead) {
  // 1 and 1.5, in either form.
  wire::Measurement half =
      Difference(SampleOf<uint16_t>(DType::kFloat16, {0x3c00}), SampleOf<uint16_t>(DType::kFloat16, {0x3e00}));
  EXPECT_DOUBLE_EQ(half.max_difference(), 0.5);
  wire::Measurement bfloat =
      Difference(SampleOf<uint16_t>(DType::kBFloat16, {0x3f80}), SampleOf<uint16_t>(DType::kBFloat16, {0x3fc0}));
  EXPECT_DOUBLE_EQ(bfloat.max_difference(), 0.5);
}

TEST(Difference, NotANumberMustBeInTheSamePlaces) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const wire::Sample reference = SampleOf<float>(DType::kFloat32, {nan, inf, 1});
  EXPECT_THAT(Difference(reference, reference).mismatch(), IsEmpty());
  EXPECT_THAT(Difference(reference, SampleOf<float>(DType::kFloat32, {0, inf, 1})).mismatch(), HasSubstr("at 0"));
  EXPECT_THAT(Difference(reference, SampleOf<float>(DType::kFloat32, {nan, -inf, 1})).mismatch(), HasSubstr("at 1"));
  EXPECT_THAT(Difference(reference, SampleOf<float>(DType::kFloat32, {nan, inf, nan})).mismatch(), HasSubstr("at 2"));
}

TEST(Difference, WholeNumbersNamesTypesAndShapesMustBeEqual) {
  const wire::Sample reference = SampleOf<int64_t>(DType::kInt64, {1, 2});
  EXPECT_THAT(Difference(reference, SampleOf<int64_t>(DType::kInt64, {1, 3})).mismatch(), HasSubstr("not what"));
  EXPECT_THAT(Difference(reference, SampleOf<int64_t>(DType::kInt64, {1})).mismatch(), HasSubstr("INT64 [1]"));
  EXPECT_THAT(Difference(reference, SampleOf<float>(DType::kFloat32, {1, 2})).mismatch(), HasSubstr("FP32 [2]"));
  EXPECT_THAT(Difference(reference, SampleOf<int64_t>(DType::kInt64, {1, 2}, "z")).mismatch(),
              HasSubstr("'y' is missing"));
}

// --- measuring, with the test engine `gate`: its output is its input, and samples steer it ---

class MeasureTest : public ::testing::Test {
 protected:
  MeasureTest() {
    testing::UseTestEngines(TANDEM_BIN_DIR);
    const auto model = folder_.Write("model", "fine");
    EXPECT_TRUE(PrepareInChild(testing::Spawn, "gate", model, folder_ / "gate", {}, 60).ok());
  }
  // A file of one sample: x begins with `first`.
  std::filesystem::path Write(const std::string& name, float first) {
    wire::Samples samples;
    *samples.add_samples() = SampleOf<float>(DType::kFloat32, {first, 0.5F}, "x");
    AddTensor({"y", DType::kInt32, {2}}, std::string_view("\1\0\0\0\2\0\0\0", 8), samples.mutable_samples(0));
    EXPECT_TRUE(WriteSamples(folder_ / name, samples).ok());
    return folder_ / name;
  }
  absl::StatusOr<wire::Measurement> Run(float first, const std::filesystem::path& reference = {},
                                        double timeout_s = 60) {
    return MeasureInChild(testing::Spawn, {"gate", folder_ / "gate", {}},
                          {Write("samples", first), reference, folder_ / "outputs"}, timeout_s);
  }

  TempFolder folder_;
};

TEST_F(MeasureTest, FindsOutputsAndLatency) {
  absl::StatusOr<wire::Measurement> found = Run(0.25);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_FALSE(found->compared());
  EXPECT_THAT(found->latency_ms(), UnorderedElementsAre(Key(1)));
  EXPECT_GT(found->latency_ms().at(1), 0);
  wire::Samples outputs = *ReadSamples(folder_ / "outputs");
  EXPECT_EQ(outputs.samples(0).tensors(0).name(), "out");
  EXPECT_THAT(ValuesOf<float>(outputs.samples(0).tensors(0)), ElementsAre(0.25F, 0.5F));
}

TEST_F(MeasureTest, SeesWrongOutputs) {
  ASSERT_TRUE(Run(0.25).ok());
  std::filesystem::rename(folder_ / "outputs", folder_ / "reference");
  EXPECT_EQ(Run(0.25, folder_ / "reference")->max_difference(), 0);
  absl::StatusOr<wire::Measurement> wrong = Run(0.75, folder_ / "reference");
  ASSERT_TRUE(wrong.ok()) << wrong.status();
  EXPECT_TRUE(wrong->compared());
  EXPECT_DOUBLE_EQ(wrong->max_difference(), 0.5);
  EXPECT_DOUBLE_EQ(wrong->relative_difference(), 1);
}

TEST_F(MeasureTest, AnEngineThatFailsCrashesOrHangsIsNamedAndHarmsNothing) {
  EXPECT_THAT(std::string(Run(-1).status().message()),
              HasSubstr("measuring engine 'gate' failed: engine 'gate': run: asked to fail"));
  EXPECT_THAT(std::string(Run(-3).status().message()),
              HasSubstr("measuring engine 'gate' crashed the engine: signal 11"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(Run(-4, {}, 1).status()));
  EXPECT_TRUE(Run(0.25).ok());
}

TEST_F(MeasureTest, SamplesOfAnotherModelAreRefused) {
  wire::Samples samples;
  *samples.add_samples() = SampleOf<float>(DType::kFloat32, {1}, "z");
  ASSERT_TRUE(WriteSamples(folder_ / "other", samples).ok());
  absl::StatusOr<wire::Measurement> found =
      MeasureInChild(testing::Spawn, {"gate", folder_ / "gate", {}}, {folder_ / "other", {}, folder_ / "outputs"}, 60);
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("the samples have no input 'x'"));
}

TEST_F(MeasureTest, ASampleIsMadeThatTheModelTakes) {
  absl::StatusOr<std::string> source =
      SampleInChild(testing::Spawn, {"gate", folder_ / "gate", {}}, 8, {}, folder_ / "made", 60);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(*source, "made");
  EXPECT_EQ(ReadSamples(folder_ / "made")->samples_size(), kSingleRuns) << "y has no free rows";
}

TEST_F(MeasureTest, ADataSetThatCannotBeReadIsSaidAndSamplesAreMade) {
  const auto broken = folder_.Write("dataset", "nothing");
  absl::StatusOr<std::string> source =
      SampleInChild(testing::Spawn, {"gate", folder_ / "gate", {}}, 8, broken, folder_ / "made", 60);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT(*source, HasSubstr("made; the job's data set cannot be used: "));
}

}  // namespace
}  // namespace tandem::engine
