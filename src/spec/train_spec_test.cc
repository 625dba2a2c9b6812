#include "spec/train_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "base/strings.h"

namespace tandem::spec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kSmall = "model: {architecture: mlp}\ndataset: fashion\n";

TrainSpec MustParse(std::string_view yaml, const std::vector<std::string>& overrides = {}) {
  absl::StatusOr<TrainSpec> spec = ParseTrainSpec(yaml, "job.yaml", overrides);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? *spec : TrainSpec();
}

std::string ErrorOf(std::string_view yaml, const std::vector<std::string>& overrides = {}) {
  absl::StatusOr<TrainSpec> spec = ParseTrainSpec(yaml, "job.yaml", overrides);
  EXPECT_FALSE(spec.ok());
  return std::string(MessageOf(spec.status()));
}

// The small spec with more lines.
std::string With(std::string_view lines) { return StrCat(kSmall, lines, "\n"); }

TEST(TrainSpec, FillsInDefaults) {
  TrainSpec spec = MustParse(kSmall);
  EXPECT_EQ(spec.name, "mlp");
  EXPECT_EQ(spec.epochs, 5);
  EXPECT_EQ(spec.batch, 128);
  EXPECT_EQ(spec.micro_batch, 32);
  EXPECT_EQ(spec.optimizer.name, "sgd");
  EXPECT_DOUBLE_EQ(spec.optimizer.lr, 0.05);
  EXPECT_FALSE(spec.register_as.has_value());
}

constexpr std::string_view kFull = R"(
name: Nacht-Lauf-äöü
kind: train
model: {architecture: resnet8, input: 3x32x32, classes: 10}
dataset: fashion
time_budget: 90s
batch: 64
micro_batch: batch
optimizer: {lr: 0.002, name: adamw, beta1: 0.8}
schedule: {name: one_cycle}
precision: bf16
augment: [flip, {crop: {padding: 2}}]
seed: 18446744073709551615
label_smoothing: 0.1
train: ["conv*"]
freeze: stem.*
tie: [[a, b], [c, "d: e"]]
priority: -5
resources: {threads: 2, memory: "2GB", cpu: 1.5, processes: 64, disk_write: 20MB/s, disk_read: 1kB/s, disk_iops: 9}
checkpoint: {every_seconds: 2min}
window: night
recurring: {cron: "30 2 * * mon-fri", time_zone: Europe/Berlin, catch_up: all, overlap: cancel}
time_limit: 2h
register: {model: f, alias: best, promote_if: {metric: loss, better_than: 0.4}}
)";

TEST(TrainSpec, ReadsEveryKey) {
  TrainSpec spec = MustParse(kFull);
  EXPECT_EQ(spec.name, "Nacht-Lauf-äöü");
  EXPECT_THAT(spec.model.input, ElementsAre(3, 32, 32));
  EXPECT_EQ(spec.epochs, 0);
  EXPECT_DOUBLE_EQ(spec.time_budget_s, 90);
  EXPECT_EQ(spec.micro_batch, 64);
  EXPECT_DOUBLE_EQ(spec.optimizer.lr, 0.002);
  EXPECT_DOUBLE_EQ(spec.optimizer.weight_decay, 0.01);
  EXPECT_DOUBLE_EQ(spec.schedule.warmup_fraction, 0.3);
  EXPECT_DOUBLE_EQ(spec.schedule.final_fraction, 1e-4);
  ASSERT_EQ(spec.augment.size(), 2u);
  EXPECT_EQ(spec.augment[1].padding, 2);
  EXPECT_EQ(spec.seed, 18446744073709551615u);
  EXPECT_THAT(spec.freeze, ElementsAre("stem.*"));
  EXPECT_EQ(spec.tie[1][1], "d: e");
  EXPECT_EQ(spec.resources.memory_bytes, 2'000'000'000);
  EXPECT_DOUBLE_EQ(spec.resources.cpu, 1.5);
  EXPECT_EQ(spec.resources.processes, 64);
  EXPECT_EQ(spec.resources.disk_write_bytes_per_s, 20'000'000);
  EXPECT_EQ(spec.resources.disk_read_bytes_per_s, 1'000);
  EXPECT_EQ(spec.resources.disk_iops, 9);
  EXPECT_DOUBLE_EQ(spec.checkpoint.every_seconds, 120);
  EXPECT_EQ(spec.window, "night");
  EXPECT_EQ(spec.recurring->cron, "30 2 * * mon-fri");
  EXPECT_EQ(spec.recurring->time_zone, "Europe/Berlin");
  EXPECT_EQ(spec.recurring->catch_up, "all");
  EXPECT_EQ(spec.recurring->overlap, "cancel");
  EXPECT_DOUBLE_EQ(spec.time_limit_s, 7200);
  EXPECT_EQ(spec.register_as->promote_if->better_than, "0.4");
}

TEST(TrainSpec, CanonicalYamlReadsBackAsTheSameSpec) {
  std::string tiny = With("optimizer: {lr: 1.0e-07, momentum: 0.30000000000000004}\ncheckpoint: {every_seconds: 0.1}");
  for (const std::string& text :
       {std::string(kFull), tiny, std::string(kSmall), With("register: m\nmicro_batch: 7\nschedule: constant"),
        With("train: [\"a\\x01b\"]").substr(0, kSmall.size()), With("train: ['\"\\', '1.5', 'no']")}) {
    TrainSpec spec = MustParse(text);
    std::string yaml = ToYaml(spec);
    EXPECT_TRUE(MustParse(yaml) == spec) << yaml;
    EXPECT_EQ(ToYaml(MustParse(yaml)), yaml);
  }
}

TEST(TrainSpec, NamesTheNearestKeyWithItsPlace) {
  EXPECT_EQ(ErrorOf(With("epoch: 3")), "job.yaml:3:1: unknown key 'epoch'; did you mean 'epochs'?");
  EXPECT_EQ(ErrorOf(With("optimizer:\n  learning: 1")),
            "job.yaml:4:3: unknown key 'learning' in 'optimizer'; known keys: name, lr, momentum, nesterov, "
            "weight_decay, beta1, beta2, eps");
}

TEST(TrainSpec, RefusesADuplicateKey) {
  EXPECT_EQ(ErrorOf(With("batch: 3\nbatch: 4")), "job.yaml:4:1: the key 'batch' is given twice");
}

TEST(TrainSpec, NamesWrongTypesAndRangesWithTheAllowedRange) {
  EXPECT_EQ(ErrorOf(With("batch: 0")), "job.yaml:3:8: batch is '0'; it must be a whole number from 1 to 1000000");
  EXPECT_THAT(ErrorOf(With("batch: 99999999999999999999")), HasSubstr("whole number from 1 to 1000000"));
  EXPECT_THAT(ErrorOf(With("batch: 1.5")), HasSubstr("batch is '1.5'"));
  EXPECT_THAT(ErrorOf(With("batch: [1]")), HasSubstr("batch is a list"));
  EXPECT_THAT(ErrorOf(With("batch:")), HasSubstr("batch is empty"));
  EXPECT_THAT(ErrorOf(With("optimizer: {lr: nan}")), HasSubstr("job.yaml:3:17: optimizer.lr is 'nan'"));
  EXPECT_THAT(ErrorOf(With("optimizer: {nesterov: maybe}")), HasSubstr("true or false"));
  EXPECT_THAT(ErrorOf(With("precision: fp23")), HasSubstr("did you mean 'fp32'?"));
  EXPECT_THAT(ErrorOf(With("seed: -1")), HasSubstr("from 0 to 18446744073709551615"));
  EXPECT_THAT(ErrorOf(With("time_budget: 5 parsecs")), HasSubstr("like 90s"));
  EXPECT_THAT(ErrorOf(With("resources: {memory: much}")), HasSubstr("resources.memory is 'much'"));
  EXPECT_THAT(ErrorOf(With("augment: [blur]")), HasSubstr("one of flip, crop"));
  EXPECT_THAT(ErrorOf(With("augment: [flip, flip]")), HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf(With("augment: [flip: {p: 1}]")), HasSubstr("flip takes no parameters"));
  EXPECT_THAT(ErrorOf(With("tie: [[a]]")), HasSubstr("two or more"));
  EXPECT_THAT(ErrorOf("model: {architecture: mlp, input: 0x3}\ndataset: d"), HasSubstr("1 to 4 sizes"));
  EXPECT_THAT(ErrorOf("model: {from: a/b/c}\ndataset: d"), HasSubstr("must be a number from 1"));
}

TEST(TrainSpec, WantsExactlyOneLengthAndOneSource) {
  EXPECT_EQ(ErrorOf(With("epochs: 1\nsteps: 2")), "job.yaml:4:8: 'epochs' and 'steps' exclude each other; keep one");
  EXPECT_THAT(ErrorOf("model: {architecture: mlp, onnx: a.onnx}\ndataset: d"), HasSubstr("exclude each other"));
  EXPECT_THAT(ErrorOf("dataset: d"), HasSubstr("the model is missing"));
  EXPECT_THAT(ErrorOf("model: {}\ndataset: d"), HasSubstr("job.yaml:1:8: the model is missing"));
  EXPECT_THAT(ErrorOf("model: {architecture: mlp}"), HasSubstr("'dataset' is missing"));
  EXPECT_THAT(ErrorOf(With("checkpoint: {every_steps: 1, every_seconds: 1}")), HasSubstr("exclude each other"));
  EXPECT_THAT(ErrorOf(With("register: {alias: a}")), HasSubstr("register.model is missing"));
  EXPECT_THAT(ErrorOf(With("register: {model: m, alias: 5}")), HasSubstr("reads as the number of a version"));
}

TEST(TrainSpec, ChecksKeysAgainstEachOther) {
  EXPECT_THAT(ErrorOf(With("batch: 8\nmicro_batch: 16")), HasSubstr("more than the batch of 8"));
  EXPECT_THAT(ErrorOf(With("optimizer: {momentum: 0, nesterov: true}")), HasSubstr("needs a momentum"));
  EXPECT_FALSE(MustParse(With("optimizer: {momentum: 0}")).optimizer.nesterov);
  EXPECT_EQ(ErrorOf(With("optimizer: {momentum: 0.9, name: adamw}")),
            "job.yaml:3:23: optimizer.momentum has no effect with adamw; remove it");
  EXPECT_THAT(ErrorOf(With("register: {model: m, promote_if: {better_than: 93}}")),
              HasSubstr("accuracy is from 0 to 1"));
}

TEST(TrainSpec, TakesShortForms) {
  TrainSpec spec = MustParse(With("optimizer: adamw\nschedule: one_cycle\nregister: fashion"));
  EXPECT_DOUBLE_EQ(spec.optimizer.lr, 0.001);
  EXPECT_EQ(spec.schedule.name, "one_cycle");
  EXPECT_EQ(spec.register_as->model, "fashion");
  EXPECT_EQ(spec.register_as->alias, "champion");
  EXPECT_EQ(spec.name, "fashion");
}

TEST(TrainSpec, ComparesWithItsOwnAliasByDefault) {
  TrainSpec spec = MustParse(With("register: {model: m, alias: best, promote_if: {metric: loss}}"));
  EXPECT_EQ(spec.register_as->promote_if->better_than, "best");
}

TEST(TrainSpec, ChecksTimesWhereTheyAreWritten) {
  TrainSpec spec = MustParse(With("recurring: 0 2 * * *"));
  EXPECT_EQ(spec.recurring->cron, "0 2 * * *");
  EXPECT_EQ(spec.recurring->catch_up, "one");
  EXPECT_EQ(spec.recurring->overlap, "skip");
  EXPECT_EQ(MustParse(With("recurring: '@daily'"), {"recurring.catch_up=none"}).recurring->catch_up, "none");
  EXPECT_FALSE(MustParse(With("recurring: '@daily'"), {"recurring="}).recurring.has_value());
  EXPECT_THAT(ErrorOf(With("recurring: 0 25 * * *")),
              AllOf(HasSubstr("job.yaml:3:12: recurring.cron: "), HasSubstr("25")));
  EXPECT_THAT(ErrorOf(With("recurring: {cron: 0 0 31 2 *}")),
              HasSubstr("job.yaml:3:19: recurring.cron is '0 0 31 2 *', "
                        "which never comes"));
  EXPECT_THAT(ErrorOf(With("recurring: {cron: '@daily', time_zone: Mars/Olympus}")),
              HasSubstr("job.yaml:3:40: time_zone: 'Mars/Olympus' is not known"));
  EXPECT_EQ(ErrorOf(With("recurring: {overlap: skip}")),
            "job.yaml:3:12: recurring.cron is missing; give the times, like 0 2 * * *");
  EXPECT_THAT(ErrorOf(With("recurring: {cron: '@daily', overlap: replace}")), HasSubstr("one of skip, queue, cancel"));
  EXPECT_THAT(ErrorOf(With("schedule: {cron: '@daily'}")),
              HasSubstr("job.yaml:3:18: schedule is the learning rate over time; write the times of a job under"));
  EXPECT_THAT(ErrorOf(With("time_limit: soon")), HasSubstr("job.yaml:3:13: time_limit is 'soon'"));
  EXPECT_THAT(ErrorOf(With("window: a/b")), HasSubstr("job.yaml:3:9: window: window name 'a/b'"));
}

TEST(TrainSpec, RefusesLimitsThatNoTrainerCouldLiveWith) {
  EXPECT_THAT(ErrorOf(With("resources: {cpu: 0.001}")), HasSubstr("the least cap is 0.01 CPUs"));
  EXPECT_THAT(ErrorOf(With("resources: {processes: 17, threads: 2}")), HasSubstr("needs 16 besides resources.threads"));
  EXPECT_THAT(ErrorOf(With("resources: {disk_write: fast}")), HasSubstr("resources.disk_write is 'fast'"));
  EXPECT_THAT(ErrorOf(With("resources: {disk_read: 1}")), HasSubstr("resources.disk_read is '1'"));
  EXPECT_TRUE(MustParse(With("resources: {cpu: 0, processes: 0, disk_write: 0, disk_iops: 0}")) == MustParse(kSmall));
}

TEST(TrainSpec, AppliesOverridesAfterTheText) {
  TrainSpec spec = MustParse(With("epochs: 3\noptimizer: adamw"),
                             {"steps=10", "optimizer.lr=0.5", "register.model=x", "augment=[flip]", "seed=4", "seed="});
  EXPECT_EQ(spec.epochs, 0);
  EXPECT_EQ(spec.steps, 10);
  EXPECT_EQ(spec.optimizer.name, "adamw");
  EXPECT_DOUBLE_EQ(spec.optimizer.lr, 0.5);
  EXPECT_EQ(spec.register_as->model, "x");
  EXPECT_EQ(spec.augment.size(), 1u);
  EXPECT_EQ(spec.seed, 0u);
  EXPECT_EQ(MustParse(kSmall, {"model.onnx=a.onnx"}).model.architecture, "");
}

TEST(TrainSpec, NamesTheOverrideThatIsWrong) {
  EXPECT_EQ(ErrorOf(kSmall, {"epoch=3"}), "--set epoch=3: unknown key 'epoch'; did you mean 'epochs'?");
  EXPECT_THAT(ErrorOf(kSmall, {"batch=x"}), HasSubstr("--set batch=x: batch is 'x'"));
  EXPECT_THAT(ErrorOf(kSmall, {"batch"}), HasSubstr("not of the form key.path=value"));
  EXPECT_THAT(ErrorOf(kSmall, {"batch.size=3"}), HasSubstr("--set batch.size=3: batch is a map"));
  EXPECT_THAT(ErrorOf(With("batch: 3"), {"batch.size=3"}), HasSubstr("'batch' is not a map"));
  EXPECT_THAT(ErrorOf(kSmall, {"a=[1"}), HasSubstr("not valid YAML"));
  EXPECT_FALSE(ErrorOf(kSmall, {"..=1"}).empty());
  EXPECT_FALSE(ErrorOf(kSmall, {std::string("a=\0", 3)}).empty());
}

TEST(TrainSpec, RefusesHostileYamlWithAClearMessage) {
  EXPECT_THAT(ErrorOf("a: [1, 2"), AllOf(HasSubstr("job.yaml:1:"), HasSubstr("not valid YAML")));
  EXPECT_THAT(ErrorOf("a: &x 1\nb: *x"), HasSubstr("anchors"));
  EXPECT_THAT(ErrorOf("a: !!python/object x"), HasSubstr("tag"));
  EXPECT_THAT(ErrorOf("- a\n- b"), HasSubstr("map of keys"));
  EXPECT_THAT(ErrorOf("just text"), HasSubstr("map of keys"));
  EXPECT_THAT(ErrorOf("? [a]\n: b"), HasSubstr("a key must be text"));
  EXPECT_THAT(ErrorOf("a: 1\n---\nb: 1"), HasSubstr("more than one YAML document"));
  EXPECT_THAT(ErrorOf(std::string_view("a: \0b", 5)), HasSubstr("NUL"));
  EXPECT_THAT(ErrorOf("a: \xff"), HasSubstr("UTF-8"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("missing"));
  EXPECT_THAT(ErrorOf("batch: \"a\\x07" + std::string(500, 'z') + "\""), AllOf(HasSubstr("\\x07z"), HasSubstr("...'")));
}

TEST(TrainSpec, RefusesHugeAndDeepYamlQuickly) {
  auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(ErrorOf(std::string(2'000'000, 'a')), HasSubstr("limit is 1.0 MB"));
  std::string items, keys, blocks;
  for (int i = 0; i < 100'000; ++i) items += "x, ";
  for (int i = 0; i < 25'000; ++i) StrAppend(&keys, "k", i, ": 1\n");
  for (int i = 0; i < 1000; ++i) StrAppend(&blocks, std::string(i, ' '), "a:\n");
  EXPECT_THAT(ErrorOf("a: [" + items + "]"), HasSubstr("more than 20000 values"));
  EXPECT_THAT(ErrorOf(keys), HasSubstr("more than 20000 values"));
  EXPECT_THAT(ErrorOf(blocks), HasSubstr("deeper than 32"));
  EXPECT_THAT(ErrorOf(std::string(900'000, '[')), HasSubstr("deeper than 32"));
  for (std::string_view piece :
       {"{", "- ", "? ", "\"", "&a ", "!", "a: ", "[{", "%", "\t", "|\n", "'", "#", ": ", "-\n", "\\", "*a "}) {
    std::string text;
    while (text.size() < 300'000) text += piece;
    EXPECT_FALSE(ErrorOf(text).empty()) << piece;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(TrainSpec, SurvivesEveryTruncationAndByteChange) {
  std::string text(kFull);
  for (size_t i = 0; i < text.size(); ++i) {
    (void)ParseTrainSpec(text.substr(0, i), "t");
    std::string changed = text;
    changed[i] = static_cast<char>("{}[]:,&*!|>'\"%@`\n\t\xff#-?"[i % 22]);
    (void)ParseTrainSpec(changed, "t");
  }
}

TEST(ModelRef, ReadsEveryForm) {
  EXPECT_EQ(ParseModelRef("m")->name, "m");
  EXPECT_EQ(ParseModelRef("m@champion")->alias, "champion");
  EXPECT_EQ(ParseModelRef("m/3")->version, 3);
  EXPECT_EQ(ParseModelRef("models:/m/3")->version, 3);
  EXPECT_EQ(ParseModelRef("models:/m@a")->alias, "a");
  for (std::string_view bad :
       {"", "@a", "/3", "m/", "m/0", "m/-1", "m/x", "m@", "m/3@a", "m@a/3", "models:/", "a b", "m/99999999999"}) {
    EXPECT_FALSE(ParseModelRef(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace tandem::spec
