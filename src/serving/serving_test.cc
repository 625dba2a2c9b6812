#include "serving/serving.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "absl/strings/str_replace.h"
#include "base/files.h"
#include "engine/testing.h"
#include "graph/graph.h"

namespace tandem::serving {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using NamedInput = Request::Input;

constexpr double kWait = 60;

struct Timing {
  int64_t queue_ns = 0, compute_ns = 0;
};
struct Done : Request::Owner {
  void Finished(Request*) override { done = true; }
  std::atomic<bool> done{false};
};

class ServingTest : public ::testing::Test {
 protected:
  ServingTest() : gate_(TANDEM_BIN_DIR) { engine::testing::UseTestEngines(TANDEM_BIN_DIR); }
  ~ServingTest() override { unsetenv("TEST_ENGINE_FAIL_LOAD"); }

  void Start(const ServingSettings& settings = {}) {
    LoadEvents events;
    events.on_loading = [this](const std::string& model, int32_t version, const std::string&) {
      std::lock_guard lock(mutex_);
      log_.push_back(StrCat("loading ", model, "/", version));
    };
    events.on_loaded = [this](const VersionStatus& status) {
      std::lock_guard lock(mutex_);
      log_.push_back(StrCat(StateName(status.state), " ", status.model, "/", status.version));
    };
    serving_ = Serving::Create(settings, engine::testing::Spawn, &metrics_, Clock::Real(), events);
  }
  // nv_inference_pending_request_count of the only version.
  double Pending() {
    for (const MetricFamily& family : metrics_.Read()) {
      if (family.name == "nv_inference_pending_request_count") return family.samples[0].value;
    }
    return -1;
  }
  std::vector<std::string> EventLog() {
    std::lock_guard lock(mutex_);
    return log_;
  }

  // A version of the engine "gate"; `kind` as in plugins/testing.
  DesiredVersion Gated(int32_t version, std::string_view kind = "good") {
    DesiredVersion spec;
    spec.version = version;
    spec.model_path = folder_.Write(StrCat("model", version, kind), kind);
    spec.prepared_folder = folder_ / StrCat("prepared", version, kind);
    spec.engine = "gate";
    return spec;
  }
  DesiredVersion Echo(int32_t version) {
    DesiredVersion spec;
    spec.version = version;
    spec.model_path = folder_.Write(StrCat("m", version, ".echo"), "IN FP32 -1\n");
    spec.prepared_folder = folder_ / StrCat("echo", version);
    spec.engine = "echo";
    return spec;
  }
  DesiredVersion Mlp(int32_t version) {
    graph::Architecture architecture{"mlp", {4}, 3, static_cast<uint64_t>(version), {8}};
    DesiredVersion spec;
    spec.version = version;
    spec.model_path = folder_.Write(StrCat("m", version, ".onnx"), *graph::MakeModel(architecture));
    spec.prepared_folder = folder_ / StrCat("mlp", version);
    return spec;
  }
  static DesiredModel Model(std::string name, std::vector<DesiredVersion> versions, int32_t default_version) {
    return {std::move(name), std::move(versions), {}, default_version};
  }
  void Serve(const std::vector<DesiredModel>& models) {
    serving_->SetDesired(models);
    for (const DesiredModel& model : models) {
      for (const DesiredVersion& version : model.versions) {
        absl::Status status = serving_->WaitUntilReady(model.name, version.version, kWait);
        ASSERT_TRUE(status.ok()) << status;
      }
    }
  }
  // Submits a request, and runs what waits until it is answered.
  absl::Status Run(const ModelHandle& handle, const std::vector<NamedInput>& inputs, std::vector<Tensor>* outputs,
                   int64_t deadline_nanos, Timing* timing) {
    Done owner;
    Request request;
    request.owner = &owner;
    request.inputs = inputs;
    request.deadline_nanos = deadline_nanos;
    handle->Submit(&request);
    while (!owner.done) {
      if (!serving_->work()->RunOne()) std::this_thread::yield();
    }
    *outputs = std::move(request.outputs);
    *timing = {request.queue_ns, request.compute_ns};
    return request.status;
  }
  std::vector<NamedInput> GateInputs() const {
    return {{"x", {DType::kFloat32, {4}, x_, 16}}, {"y", {DType::kInt32, {2}, y_, 8}}};
  }

  alignas(64) float x_[4] = {1, 2, 3, 4};
  alignas(64) int32_t y_[2] = {5, 6};
  engine::testing::TempFolder folder_;
  engine::testing::Gate gate_;
  Metrics metrics_;
  std::mutex mutex_;
  std::vector<std::string> log_;  // guarded by mutex_
  std::unique_ptr<Serving> serving_;
};

TEST_F(ServingTest, LoadsAndServesByNumberAliasAndDefault) {
  Start();
  DesiredModel model = Model("m", {Gated(1), Gated(2)}, 1);
  model.aliases["champion"] = 2;
  Serve({model});
  EXPECT_EQ((*serving_->Find("m", ""))->version(), 1);
  EXPECT_EQ((*serving_->Find("m", "0"))->version(), 1);
  EXPECT_EQ((*serving_->Find("m", "2"))->version(), 2);
  EXPECT_EQ((*serving_->Find("m", "champion"))->version(), 2);
  EXPECT_THAT(serving_->ReadyVersions("m"), ElementsAre(1, 2));
  EXPECT_TRUE(serving_->Settled());
  std::vector<Tensor> outputs;
  Timing timing;
  ASSERT_TRUE(Run(*serving_->Find("m", ""), GateInputs(), &outputs, 0, &timing).ok());
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(outputs[0].name, "out");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(outputs[0].buffer.data()), 16),
            std::string(reinterpret_cast<const char*>(x_), 16));
  EXPECT_EQ(timing.queue_ns, 0);
  EXPECT_GT(timing.compute_ns, 0);
  serving_.reset();
  EXPECT_THAT(EventLog(), ElementsAre("loading m/1", "READY m/1", "loading m/2", "READY m/2"));
}

TEST_F(ServingTest, UnknownNamesSayWhatThereIs) {
  Start();
  EXPECT_EQ(serving_->Find("m", "").status().message(), "model 'm' is not served; no model is");
  DesiredModel model = Model("fashion", {Gated(1)}, 1);
  model.aliases["champion"] = 1;
  Serve({model});
  absl::Status status = serving_->Find("fashon", "").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "model 'fashon' is not served; there is fashion; did you mean 'fashion'?");
  EXPECT_EQ(serving_->Find("fashion", "7").status().message(),
            "model 'fashion' has no version or alias '7' that is served; there is 1, champion (version 1)");
  EXPECT_EQ(serving_->Find("fashion", "old").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(serving_->WaitUntilReady("fashion", 9, 1).code(), absl::StatusCode::kNotFound);
}

TEST_F(ServingTest, WhileItLoadsAModelIsUnavailableAndTheOldVersionServes) {
  Start();
  Serve({Model("m", {Gated(1)}, 1)});
  gate_.Hold(true);  // the warm-up of version 2 waits
  DesiredModel next = Model("m", {Gated(2)}, 2);
  serving_->SetDesired({next});
  EXPECT_EQ((*serving_->Find("m", ""))->version(), 1);
  absl::Status status = serving_->Find("m", "2").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("version 2 is being loaded"));
  EXPECT_FALSE(serving_->Settled());
  EXPECT_EQ(serving_->WaitUntilReady("m", 2, 0.01).code(), absl::StatusCode::kDeadlineExceeded);
  gate_.Hold(false);
  ASSERT_TRUE(serving_->WaitUntilReady("m", 2, kWait).ok());
  EXPECT_EQ((*serving_->Find("m", ""))->version(), 2);
  gate_.AwaitModels(1);
  EXPECT_EQ(serving_->Find("m", "1").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ServingTest, AnAliasMovesOnlyToAVersionThatIsReady) {
  Start();
  DesiredModel model = Model("m", {Gated(1)}, 1);
  model.aliases["champion"] = 1;
  Serve({model});
  gate_.Hold(true);
  model = Model("m", {Gated(2)}, 2);
  model.aliases["champion"] = 2;
  serving_->SetDesired({model});
  EXPECT_EQ((*serving_->Find("m", "champion"))->version(), 1);
  gate_.Hold(false);
  ASSERT_TRUE(serving_->WaitUntilReady("m", 2, kWait).ok());
  EXPECT_EQ((*serving_->Find("m", "champion"))->version(), 2);
}

TEST_F(ServingTest, AFailedLoadKeepsTheOldVersionAndIsNotTriedAgainUntilItChanges) {
  Start();
  Serve({Model("m", {Gated(1)}, 1)});
  for (const char* kind : {"bad", "crash"}) {
    DesiredModel next = Model("m", {Gated(2, kind)}, 2);
    serving_->SetDesired({next});
    absl::Status status = serving_->WaitUntilReady("m", 2, kWait);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(*kind == 'b' ? "Nonsense" : "crashed the engine"));
    EXPECT_EQ((*serving_->Find("m", ""))->version(), 1);
    EXPECT_THAT(std::string(serving_->Find("m", "2").status().message()), HasSubstr("could not be loaded"));
    serving_->SetDesired({next});
    EXPECT_TRUE(serving_->Settled()) << "the same version again is no new attempt";
  }
  Serve({Model("m", {Gated(2)}, 2)});
  EXPECT_EQ((*serving_->Find("m", ""))->version(), 2);
}

TEST_F(ServingTest, AFailedVersionIsTriedAgainOnceItWasGone) {
  Start();
  setenv("TEST_ENGINE_FAIL_LOAD", "1", 1);
  DesiredModel model = Model("m", {Gated(1, "unloadable")}, 1);
  serving_->SetDesired({model});
  EXPECT_FALSE(serving_->WaitUntilReady("m", 1, kWait).ok());
  unsetenv("TEST_ENGINE_FAIL_LOAD");
  serving_->SetDesired({});
  Serve({model});
}

TEST_F(ServingTest, UnloadingWaitsForTheLastHandle) {
  Start();
  Serve({Model("m", {Gated(1)}, 1)});
  ModelHandle handle = *serving_->Find("m", "");
  serving_->SetDesired({});
  EXPECT_EQ(serving_->Find("m", "").status().code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(serving_->States().size(), 1u);
  EXPECT_EQ(serving_->States()[0].state, VersionState::kUnloading);
  std::vector<Tensor> outputs;
  Timing timing;
  EXPECT_TRUE(Run(handle, GateInputs(), &outputs, 0, &timing).ok());
  EXPECT_EQ(gate_.Models(), 1);
  handle.reset();
  gate_.AwaitModels(0);
}

TEST_F(ServingTest, AnIdleThreadThatOnceServedDoesNotKeepAVersionAlive) {
  Start();
  Serve({Model("m", {Gated(1)}, 1)});
  std::mutex mutex;
  std::unique_lock hold(mutex);
  std::atomic<bool> ran{false};
  std::thread idle([&] {
    std::vector<Tensor> outputs;
    Timing timing;
    EXPECT_TRUE(Run(*serving_->Find("m", ""), GateInputs(), &outputs, 0, &timing).ok());
    ran = true;
    ran.notify_one();
    std::lock_guard wait(mutex);
  });
  ran.wait(false);
  serving_->SetDesired({});
  gate_.AwaitModels(0);
  hold.unlock();
  idle.join();
}

TEST_F(ServingTest, DestructionUnloadsEverything) {
  Start();
  Serve({Model("a", {Gated(1)}, 1), Model("b", {Gated(2)}, 2)});
  serving_.reset();
  EXPECT_EQ(gate_.Models(), 0);
}

TEST_F(ServingTest, SwapsUnderLoadWithoutOneFailure) {
  ServingSettings settings;
  settings.instances = 2;
  Start(settings);
  Serve({Model("m", {Mlp(1)}, 1)});
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, served{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      std::vector<NamedInput> inputs = {{"input", {DType::kFloat32, {1, 4}, x_, 16}}};
      std::vector<Tensor> outputs;
      Timing timing;
      while (!stop) {
        absl::StatusOr<ModelHandle> handle = serving_->Find("m", "");
        bool ok = handle.ok() && Run(*handle, inputs, &outputs, 0, &timing).ok();
        ++(ok ? served : failed);
        std::this_thread::sleep_for(std::chrono::microseconds(200));  // a load that leaves room for the loader
      }
    });
  }
  std::vector<DesiredVersion> specs = {Mlp(1), Mlp(2), Mlp(3)};
  for (int swap = 1; swap <= 5; ++swap) {
    const DesiredVersion& spec = specs[swap % 3];
    Serve({Model("m", {spec}, spec.version)});
    EXPECT_EQ((*serving_->Find("m", ""))->version(), spec.version);
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(served, 20);
}

TEST_F(ServingTest, AFullQueueAnswersAtOnceAndADeadlineIsKept) {
  ServingSettings settings;
  settings.queue_limit = 1;
  Start(settings);
  Serve({Model("m", {Gated(1)}, 1)});
  ModelHandle handle = *serving_->Find("m", "");
  gate_.Hold(true);
  auto run = [&](int64_t deadline, Timing* timing) {
    std::vector<Tensor> outputs;
    return Run(handle, GateInputs(), &outputs, deadline, timing);
  };
  Timing first_timing, second_timing, timing;
  std::thread first([&] { EXPECT_TRUE(run(0, &first_timing).ok()); });
  gate_.AwaitRunning(1);
  const int64_t deadline = Clock::Real()->MonotonicNanos() + 5'000'000;
  absl::Status late = run(deadline, &timing);
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded) << late;
  EXPECT_GE(Clock::Real()->MonotonicNanos(), deadline);
  EXPECT_GT(timing.queue_ns, 0);
  EXPECT_EQ(timing.compute_ns, 0);
  std::thread second([&] { EXPECT_TRUE(run(0, &second_timing).ok()); });
  while (Pending() != 1) std::this_thread::yield();
  absl::Status full = run(0, &timing);
  EXPECT_EQ(full.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(full.message(), "queue of model 'm' version 1 is full (1 waiting); try again later");
  EXPECT_GT(timing.queue_ns, 0);
  EXPECT_EQ(run(1, &timing).code(), absl::StatusCode::kDeadlineExceeded) << "a deadline in the past";
  gate_.Hold(false);
  first.join();
  second.join();
  EXPECT_GT(second_timing.queue_ns, 0);
}

TEST_F(ServingTest, AWrongRequestIsRefusedAndAnErrorOfTheEngineIsPassedOn) {
  Start();
  Serve({Model("m", {Gated(1)}, 1)});
  ModelHandle handle = *serving_->Find("m", "");
  std::vector<Tensor> outputs;
  Timing timing;
  std::vector<NamedInput> inputs = GateInputs();
  inputs[1].name = "z";
  absl::Status status = Run(handle, inputs, &outputs, 0, &timing);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model 'm' version 1: input 'y' is missing"));
  EXPECT_EQ(handle->RunInBackground(inputs, &outputs).code(), absl::StatusCode::kInvalidArgument);
  x_[0] = -1;
  status = Run(handle, GateInputs(), &outputs, 0, &timing);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("asked to fail"));
  EXPECT_GT(timing.compute_ns, 0);
}

TEST_F(ServingTest, BackgroundRunsDoNotTakeTheInstanceOfRequests) {
  Start();
  Serve({Model("m", {Gated(1)}, 1)});
  ModelHandle handle = *serving_->Find("m", "");
  gate_.Hold(true);
  std::thread background([&] {
    std::vector<Tensor> outputs;
    EXPECT_TRUE(handle->RunInBackground(GateInputs(), &outputs).ok());
  });
  gate_.AwaitRunning(1);
  std::thread request([&] {
    std::vector<Tensor> outputs;
    Timing timing;
    EXPECT_TRUE(Run(handle, GateInputs(), &outputs, 0, &timing).ok());
    EXPECT_EQ(timing.queue_ns, 0);
  });
  gate_.AwaitRunning(2);
  gate_.Hold(false);
  background.join();
  request.join();
}

TEST_F(ServingTest, TheMemoryLimitRefusesAndNamesWhatHoldsIt) {
  ServingSettings settings;
  settings.memory_limit_bytes = 1500;  // the engine "gate" takes 1000 a model
  Start(settings);
  Serve({Model("a", {Gated(1)}, 1)});
  serving_->SetDesired({Model("a", {Gated(1)}, 1), Model("b", {Gated(2)}, 2)});
  absl::Status status = serving_->WaitUntilReady("b", 2, kWait);
  EXPECT_THAT(std::string(status.message()), HasSubstr("needs 1.0 kB of memory"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("unload one of 'a' version 1 (1.0 kB)"));
  EXPECT_TRUE(serving_->Find("a", "").ok());
}

TEST_F(ServingTest, APreparedFolderIsUsedAgainAndADamagedOneIsPreparedOnceMore) {
  Start();
  DesiredModel model = Model("m", {Mlp(1)}, 1);
  Serve({model});
  serving_->SetDesired({});
  serving_.reset();
  std::ofstream(model.versions[0].prepared_folder / "signature") << "nonsense\n";
  Start();
  Serve({model});
}

TEST_F(ServingTest, AnEstimateOfMemoryThatCannotBeMeansADamagedFolder) {
  ServingSettings settings;
  settings.spawn_service = engine::testing::StartService;
  Start(settings);
  DesiredModel model = Model("m", {Gated(1)}, 1);
  model.config.isolation = "process";  // else the engine is asked
  Serve({model});
  const std::filesystem::path file = model.versions[0].prepared_folder / "prepared.json";
  for (const char* bytes : {"1e300", "-1", "\"NaN\""}) {
    serving_->SetDesired({});
    const std::string json = ReadFile(file).value();
    ASSERT_THAT(json, HasSubstr("\"memory_bytes\": 1000,"));
    const std::string damaged =
        absl::StrReplaceAll(json, {{"\"memory_bytes\": 1000,", StrCat("\"memory_bytes\": ", bytes, ",")}});
    ASSERT_TRUE(WriteFileAtomically(file, damaged).ok());
    Serve({model});
    EXPECT_THAT(ReadFile(file).value(), HasSubstr("\"memory_bytes\": 1000,")) << bytes;
    EXPECT_EQ(serving_->States()[0].memory_bytes, 1000) << bytes;
  }
}

TEST_F(ServingTest, AnUnknownEngineFailsTheVersionByName) {
  Start();
  DesiredVersion spec = Gated(1);
  spec.engine = "nosuch";
  serving_->SetDesired({Model("m", {spec}, 1)});
  EXPECT_THAT(std::string(serving_->WaitUntilReady("m", 1, kWait).message()), HasSubstr("no engine 'nosuch'"));
}

TEST_F(ServingTest, MetricsAndStatisticsCountWhatTheDoorRecords) {
  Start();
  Serve({Model("m", {Echo(3)}, 3)});
  ModelHandle handle = *serving_->Find("m", "");
  handle->Record(true, 2, 90'000, 10'000, 20'000, 30'000, 5'000);
  handle->Record(true, 1, 10'000, 0, 1'000, 1'000, 1'000);
  handle->Record(false, 0, 1'000, 0, 0, 500, 0);
  handle->Record(false, 0, 1'000, 100, 0, 0, 0);
  handle->Record(false, 0, 1'000, 0, 0, 0, 0);
  Statistics sums = handle->ReadStatistics();
  EXPECT_EQ(sums.success_count, 2u);
  EXPECT_EQ(sums.fail_count, 3u);
  EXPECT_EQ(sums.inference_count, 3u);
  EXPECT_EQ(sums.queue_ns, 10'000u);
  EXPECT_GT(sums.last_inference_ms, 0);
  EXPECT_EQ(handle->ReadLatency().count, 2u);
  std::map<std::string, double> values;
  for (const MetricFamily& family : metrics_.Read()) {
    for (const MetricSample& sample : family.samples) {
      EXPECT_EQ(sample.labels[0], (std::pair<std::string, std::string>{"model", "m"}));
      EXPECT_EQ(sample.labels[1].second, "3");
      std::string reason = sample.labels.size() > 2 ? sample.labels[2].second : "";
      values[family.name + reason] = sample.histogram ? sample.histogram->sum : sample.value;
    }
  }
  EXPECT_EQ(values["nv_inference_request_success"], 2);
  EXPECT_EQ(values["nv_inference_request_failureBACKEND"], 1);
  EXPECT_EQ(values["nv_inference_request_failureREJECTED"], 1);
  EXPECT_EQ(values["nv_inference_request_failureOTHER"], 1);
  EXPECT_EQ(values["nv_inference_count"], 3);
  EXPECT_EQ(values["nv_inference_request_duration_us"], 100);
  EXPECT_EQ(values["nv_inference_compute_infer_duration_us"], 31);
  EXPECT_DOUBLE_EQ(values["tandem_request_duration_seconds"], 100e-6);
  EXPECT_GT(values["nv_model_load_duration_secs"], 0);
}

}  // namespace
}  // namespace tandem::serving
