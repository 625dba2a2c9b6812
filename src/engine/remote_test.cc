// Engines in a child process that crash, hang and lie; the real tandem-engine-host.
#include "engine/remote.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <cstring>
#include <thread>

#include "base/status.h"
#include "engine/arena.h"
#include "engine/packet.h"
#include "engine/remote_model.h"
#include "engine/testing.h"

namespace tandem::engine {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::TempFolder;

constexpr int32_t kY[2] = {1, 2};

int OpenDescriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// Runs of the engine "gate": x and y in, x out.
struct GateRun {
  explicit GateRun(std::vector<float> values) : x(std::move(values)) {}
  absl::Status On(Instance* instance) {
    std::vector<InputView> inputs = {
        {DType::kFloat32, {static_cast<int64_t>(x.size())}, x.data(), x.size() * sizeof(float)},
        {DType::kInt32, {2}, kY, sizeof kY}};
    return instance->Run(inputs, &outputs);
  }
  bool Echoed() const {
    return outputs.size() == 1 && outputs[0].buffer.size() == x.size() * sizeof(float) &&
           (x.empty() || std::memcmp(outputs[0].buffer.data(), x.data(), outputs[0].buffer.size()) == 0);
  }
  std::vector<float> x;
  std::vector<Tensor> outputs;
};

absl::Status RunGate(Instance* instance, std::vector<float> values) {
  GateRun run(std::move(values));
  absl::Status status = run.On(instance);
  EXPECT_EQ(status.ok(), run.Echoed());
  return status;
}

class RemoteTest : public ::testing::Test {
 protected:
  RemoteTest() { testing::UseTestEngines(TANDEM_BIN_DIR); }
  ~RemoteTest() override { unsetenv("TEST_ENGINE_FAIL_LOAD"); }

  RemoteOptions Prepare(const std::string& engine, const std::string& file, const std::string& text) {
    absl::StatusOr<wire::Prepared> prepared =
        PrepareInChild(testing::Spawn, engine, folder_.Write(file, text), folder_ / "prepared", {}, 60);
    EXPECT_TRUE(prepared.ok()) << prepared.status();
    return {.what = "model 'x' version 3",
            .engine = engine,
            .folder = folder_ / "prepared",
            .spawn = testing::StartService,
            .clock = &clock_,
            .supervise = false};
  }
  std::unique_ptr<RemoteModel> Load(RemoteOptions options) {
    absl::StatusOr<std::unique_ptr<RemoteModel>> model = RemoteModel::Load(std::move(options));
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? *std::move(model) : nullptr;
  }
  std::unique_ptr<RemoteModel> LoadGate(double run_timeout_s = 30) {
    RemoteOptions options = Prepare("gate", "m", "fine");
    options.run_timeout_s = run_timeout_s;
    return Load(options);
  }
  static std::unique_ptr<Instance> Make(LoadedModel* model) {
    absl::StatusOr<std::unique_ptr<Instance>> instance = model->MakeInstance();
    EXPECT_TRUE(instance.ok()) << instance.status();
    return instance.ok() ? *std::move(instance) : nullptr;
  }
  // Lets the model see that its child ended, `wait_s` later start another.
  void Restart(RemoteModel* model, int64_t wait_s) {
    model->Wait(20000);
    model->Step();
    clock_.AdvanceMillis(1000 * wait_s);
    model->Step();
  }

  TempFolder folder_;
  FakeClock clock_;
};

TEST_F(RemoteTest, AModelInAChildLooksLikeAnyOther) {
  absl::StatusOr<std::unique_ptr<LoadedModel>> model = LoadRemote(Prepare("gate", "m", "fine"));
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_EQ((*model)->inputs().size(), 2u);
  EXPECT_EQ((*model)->inputs()[0].name, "x");
  EXPECT_EQ((*model)->inputs()[0].shape, Shape{-1});
  EXPECT_EQ((*model)->inputs()[1].dtype, DType::kInt32);
  std::unique_ptr<Instance> instance = Make(model->get());
  GateRun run({1, 2, 3});
  ASSERT_TRUE(run.On(instance.get()).ok());
  EXPECT_TRUE(run.Echoed());
  EXPECT_EQ(run.outputs[0].name, "out");
  EXPECT_EQ(run.outputs[0].shape, Shape{3});
  EXPECT_TRUE(RunGate(instance.get(), {}).ok()) << "no elements";
}

TEST_F(RemoteTest, AnErrorOfTheEngineIsAnErrorOfTheRunAlone) {
  std::unique_ptr<RemoteModel> model = LoadGate();
  std::unique_ptr<Instance> instance = Make(model.get());
  EXPECT_THAT(std::string(RunGate(instance.get(), {-1}).message()), HasSubstr("engine 'gate': run: asked to fail"));
  EXPECT_THAT(std::string(RunGate(instance.get(), {-5}).message()), HasSubstr("threw an exception"));
  for (float garbage : {-6.f, -7.f}) {
    absl::Status status = RunGate(instance.get(), {garbage});
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr("a code "));
  }
  EXPECT_TRUE(RunGate(instance.get(), {1}).ok());
}

TEST_F(RemoteTest, ACrashFailsOnlyTheRunInItAndNamesTheSignal) {
  std::unique_ptr<RemoteModel> model = LoadGate();
  std::unique_ptr<Instance> instance = Make(model.get());
  absl::Status status = RunGate(instance.get(), {-2});
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model 'x' version 3: the process of engine 'gate' crashed: signal 9 (Killed) while this "
                        "request ran in it"));
  status = RunGate(instance.get(), {1});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("crashed: signal 9 (Killed), and is being restarted; try again in 1 s"));
  Restart(model.get(), 1);
  EXPECT_TRUE(RunGate(instance.get(), {1}).ok());
}

TEST_F(RemoteTest, ANullPointerOrAnExitInTheEngineLeavesThisProcessAlone) {
  std::unique_ptr<RemoteModel> model = LoadGate();
  std::unique_ptr<Instance> instance = Make(model.get());
  // Sanitizers turn the signal into an exit.
  EXPECT_THAT(std::string(RunGate(instance.get(), {-3}).message()),
              AnyOf(HasSubstr("crashed: signal 11 (Segmentation fault)"), HasSubstr("ended with exit code")));
  Restart(model.get(), 1);
  EXPECT_THAT(std::string(RunGate(instance.get(), {-8}).message()), HasSubstr("ended with exit code 3"));
}

TEST_F(RemoteTest, OtherModelsAndTheirInstancesNoticeNothingOfACrash) {
  std::unique_ptr<RemoteModel> crashing = LoadGate(), other = LoadGate();
  std::unique_ptr<Instance> bad = Make(crashing.get()), good = Make(other.get());
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, done{0};
  std::thread load([&] {
    while (!stop || done < 100) {
      failed += RunGate(good.get(), {1, 2}).ok() ? 0 : 1;
      ++done;
    }
  });
  EXPECT_FALSE(RunGate(bad.get(), {-2}).ok());
  Restart(crashing.get(), 1);
  EXPECT_TRUE(RunGate(bad.get(), {1}).ok());
  stop = true;
  load.join();
  EXPECT_EQ(failed, 0);
}

TEST_F(RemoteTest, RunsInAllInstancesOfACrashedChildFailAndAllComeBack) {
  std::unique_ptr<RemoteModel> model = LoadGate();
  std::vector<std::unique_ptr<Instance>> instances;
  for (int i = 0; i < 3; ++i) instances.push_back(Make(model.get()));
  absl::Status hung;
  std::thread waiting([&] { hung = RunGate(instances[0].get(), {-4}); });
  EXPECT_EQ(RunGate(instances[1].get(), {-2}).code(), absl::StatusCode::kInternal);
  waiting.join();  // its own socket closed with the child
  EXPECT_THAT(hung.code(), AnyOf(absl::StatusCode::kInternal, absl::StatusCode::kUnavailable)) << hung;
  Restart(model.get(), 1);
  for (auto& instance : instances) EXPECT_TRUE(RunGate(instance.get(), {1}).ok());
}

TEST_F(RemoteTest, AnInstanceThatIsFreedEndsAloneAndNewOnesCanBeMade) {
  std::unique_ptr<RemoteModel> model = LoadGate();
  std::unique_ptr<Instance> first = Make(model.get()), second = Make(model.get());
  first.reset();
  EXPECT_TRUE(RunGate(second.get(), {1}).ok());
  EXPECT_TRUE(RunGate(Make(model.get()).get(), {1}).ok());
}

TEST_F(RemoteTest, CrashesAreFollowedByLongerAndLongerWaits) {
  std::unique_ptr<RemoteModel> model = LoadGate();
  std::unique_ptr<Instance> instance = Make(model.get());
  for (int64_t wait_s : {1, 2, 4}) {
    ASSERT_FALSE(RunGate(instance.get(), {-2}).ok());
    model->Wait(20000);
    model->Step();
    clock_.AdvanceMillis(1000 * wait_s - 10);
    model->Step();
    EXPECT_THAT(std::string(RunGate(instance.get(), {1}).message()), HasSubstr("try again in 1 s"));
    EXPECT_EQ(model->MakeInstance().status().code(), absl::StatusCode::kUnavailable);
    clock_.AdvanceMillis(10);
    model->Step();
    ASSERT_TRUE(RunGate(instance.get(), {1}).ok());
  }
  clock_.AdvanceMillis(60'000);
  ASSERT_FALSE(RunGate(instance.get(), {-2}).ok());
  Restart(model.get(), 1);
  EXPECT_TRUE(RunGate(instance.get(), {1}).ok()) << "a minute of health begins anew";
}

TEST(Backoff, GrowsToHalfAMinuteAndBeginsAnewAfterAMinuteOfHealth) {
  constexpr int64_t kSecond = 1'000'000'000;
  Backoff backoff;
  for (int64_t seconds : {1, 2, 4, 8, 16, 30, 30, 30}) EXPECT_EQ(backoff.NextNanos(59 * kSecond), seconds * kSecond);
  EXPECT_EQ(backoff.NextNanos(60 * kSecond), kSecond);
  EXPECT_EQ(backoff.NextNanos(0), 2 * kSecond);
}

TEST_F(RemoteTest, AChildThatCannotLoadAgainIsTriedAgainLater) {
  RemoteOptions options = Prepare("gate", "m", "stillborn");
  std::unique_ptr<RemoteModel> model = Load(options);
  std::unique_ptr<Instance> instance = Make(model.get());
  setenv("TEST_ENGINE_FAIL_LOAD", "1", 1);
  ASSERT_FALSE(RunGate(instance.get(), {-2}).ok());
  Restart(model.get(), 1);
  EXPECT_THAT(std::string(RunGate(instance.get(), {1}).message()), HasSubstr("could not be started again"));
  unsetenv("TEST_ENGINE_FAIL_LOAD");
  clock_.AdvanceMillis(2000);
  model->Step();
  EXPECT_TRUE(RunGate(instance.get(), {1}).ok());
}

TEST_F(RemoteTest, ARunThatHangsIsTimedOutAndItsChildReplaced) {
  std::unique_ptr<RemoteModel> model = LoadGate(1);
  std::unique_ptr<Instance> instance = Make(model.get());
  for (float hang : {-4.f, -11.f}) {
    absl::Status status = RunGate(instance.get(), {hang});
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("the run took longer than 1.0 s"));
    EXPECT_THAT(std::string(RunGate(instance.get(), {1}).message()),
                HasSubstr("was stopped because a run in it took too long"));
    Restart(model.get(), 2);
    EXPECT_TRUE(RunGate(instance.get(), {1}).ok());
  }
}

TEST_F(RemoteTest, AnAnswerThatCannotBeIsRefusedAndItsChildReplaced) {
  std::unique_ptr<RemoteModel> model = LoadGate();
  std::unique_ptr<Instance> instance = Make(model.get());
  absl::Status status = RunGate(instance.get(), {-9});
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("output 'out': the unknown data type 77"));
  Restart(model.get(), 1);
  EXPECT_THAT(std::string(RunGate(instance.get(), {-10}).message()), HasSubstr("8 bytes for FP32 [1]"));
  Restart(model.get(), 2);
  EXPECT_TRUE(RunGate(instance.get(), {1}).ok());
}

TEST_F(RemoteTest, AModelRestartsByItselfWithItsOwnThread) {
  RemoteOptions options = Prepare("gate", "m", "fine");
  options.clock = Clock::Real();
  options.supervise = true;
  absl::StatusOr<std::unique_ptr<LoadedModel>> model = LoadRemote(options);
  ASSERT_TRUE(model.ok()) << model.status();
  std::unique_ptr<Instance> instance = Make(model->get());
  ASSERT_FALSE(RunGate(instance.get(), {-2}).ok());
  const int64_t end = Clock::Real()->MonotonicNanos() + 20'000'000'000;
  while (!RunGate(instance.get(), {1}).ok() && Clock::Real()->MonotonicNanos() < end) poll(nullptr, 0, 20);
  EXPECT_TRUE(RunGate(instance.get(), {1}).ok());
}

// Reads as often as the server does while runs go on, and sees that no sum falls.
class CpuReader {
 public:
  explicit CpuReader(ChildCpu* cpu) : cpu_(cpu), thread_([this](const std::stop_token& stop) { Loop(stop); }) {}
  ChildCpu::Used Read() {
    std::lock_guard lock(mutex_);
    const ChildCpu::Used now = cpu_->Read();
    EXPECT_GE(now.all_ns, last_.all_ns);
    EXPECT_GE(now.requests_ns, last_.requests_ns);
    EXPECT_LE(now.requests_ns, now.all_ns);
    return last_ = now;
  }

 private:
  void Loop(const std::stop_token& stop) {
    for (; !stop.stop_requested(); poll(nullptr, 0, 2)) Read();
  }
  ChildCpu* const cpu_;
  std::mutex mutex_;
  ChildCpu::Used last_;  // guarded by mutex_
  std::jthread thread_;  // last
};

TEST_F(RemoteTest, CpuTimeOfRequestsIsCountedAlsoOfRunsThatAreKilledAndNoOther) {
  RemoteOptions options = Prepare("gate", "m", "fine");
  options.run_timeout_s = 0.5;
  options.cpu = std::make_shared<ChildCpu>();
  CpuReader cpu(options.cpu.get());
  std::unique_ptr<RemoteModel> model = Load(options);
  std::unique_ptr<Instance> evaluates = Make(model.get()), answers = Make(model.get());
  ASSERT_TRUE(RunGate(answers.get(), {1}).ok()) << "a warm-up";
  answers->StartRequests();
  const ChildCpu::Used loaded = cpu.Read();
  EXPECT_GT(loaded.all_ns, 0);
  EXPECT_LT(loaded.requests_ns, 10'000'000) << "loading and warming up";
  // All that a run computes until it is killed: of the CPU as much as the machine had.
  auto computed = [&](Instance* instance, int64_t wait_s) {
    const ChildCpu::Used before = cpu.Read();
    EXPECT_EQ(RunGate(instance, {-11}).code(), absl::StatusCode::kDeadlineExceeded);
    const ChildCpu::Used now = cpu.Read();
    Restart(model.get(), wait_s);
    EXPECT_GT(now.all_ns - before.all_ns, 20'000'000);
    return std::make_pair(now.all_ns - before.all_ns, now.requests_ns - before.requests_ns);
  };
  auto [all, requests] = computed(evaluates.get(), 1);
  EXPECT_LT(requests, all / 2) << "an evaluation";
  std::tie(all, requests) = computed(answers.get(), 2);
  EXPECT_GT(requests, all / 2);
  std::tie(all, requests) = computed(answers.get(), 4);
  EXPECT_GT(requests, all / 2) << "in the child that came after";
  const ChildCpu::Used before = cpu.Read();
  answers.reset();
  evaluates.reset();
  model.reset();
  EXPECT_GE(cpu.Read().all_ns, before.all_ns) << "an unloaded model's stays";
}

TEST_F(RemoteTest, TensorsThatDoNotFitMakeTheSharedMemoryGrow) {
  std::unique_ptr<RemoteModel> model = LoadGate();
  std::unique_ptr<Instance> instance = Make(model.get());
  for (size_t elements : {1, 20'000, 4'000'000, 3, 5'000'000, 0, 100}) {
    GateRun run{std::vector<float>(elements)};
    for (size_t i = 0; i < elements; ++i) run.x[i] = static_cast<float>(i % 1000);
    ASSERT_TRUE(run.On(instance.get()).ok()) << elements;
    EXPECT_TRUE(run.Echoed()) << elements;
  }
}

TEST_F(RemoteTest, StringsPassAsTheyAre) {
  std::unique_ptr<RemoteModel> model = Load(Prepare("echo", "m.echo", "IN BYTES -1 OUT\n"));
  std::unique_ptr<Instance> instance = Make(model.get());
  alignas(64) const char bytes[] = "\3\0\0\0abc\0\0\0\0\1\0\0\0";  // "abc", "", "\0" (the literal's own end)
  std::vector<Tensor> outputs;
  ASSERT_TRUE(instance->Run({{DType::kString, {3}, bytes, sizeof bytes}}, &outputs).ok());
  EXPECT_EQ(outputs[0].dtype, DType::kString);
  EXPECT_EQ(outputs[0].shape, Shape{3});
  EXPECT_EQ(outputs[0].bytes(), std::string_view(bytes, sizeof bytes));
}

TEST_F(RemoteTest, InstancesRunAtTheSameTimeAndNothingLeaks) {
  std::unique_ptr<RemoteModel> model = LoadGate();
  std::unique_ptr<Instance> first = Make(model.get()), second = Make(model.get());
  const int before = OpenDescriptors();
  std::atomic<int> failed{0};
  auto work = [&](Instance* instance, float seed) {
    for (int i = 0; i < 1000; ++i) failed += RunGate(instance, {seed, static_cast<float>(i)}).ok() ? 0 : 1;
  };
  std::thread other([&] { work(second.get(), 7); });
  work(first.get(), 8);
  other.join();
  EXPECT_EQ(failed, 0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(RunGate(first.get(), {-2}).ok());
    Restart(model.get(), 30);
    EXPECT_TRUE(RunGate(first.get(), {1}).ok());
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(RemoteTest, ALoadThatFailsCrashesOrHangsIsSaidAndLeavesNothing) {
  RemoteOptions options = Prepare("gate", "m", "unloadable");
  setenv("TEST_ENGINE_FAIL_LOAD", "1", 1);
  const int before = OpenDescriptors();
  EXPECT_THAT(std::string(LoadRemote(options).status().message()), HasSubstr("the blob is damaged"));
  EXPECT_THAT(std::string(LoadRemote(Prepare("gate", "m", "fine")).status().ToString()), HasSubstr("OK"));
  options.engine = "echo";
  EXPECT_EQ(LoadRemote(options).status().code(), absl::StatusCode::kNotFound);
  unsetenv("TEST_ENGINE_FAIL_LOAD");
  options = Prepare("gate", "m", "stillborn");
  setenv("TEST_ENGINE_FAIL_LOAD", "1", 1);
  EXPECT_THAT(std::string(LoadRemote(options).status().message()),
              HasSubstr("while loading, the process of engine 'gate' crashed: signal 6 (Aborted)"));
  options.spawn = [](const std::vector<std::string>&, int socket) {
    return testing::StartService({"/bin/sleep", "1000"}, socket);
  };
  options.load_timeout_s = 0.1;
  absl::Status status = LoadRemote(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("loading in engine 'gate' took longer than 100 ms"));
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(RemoteTest, AFailureWithoutACodeIsAFailure) {
  RemoteOptions options = Prepare("gate", "m", "fine");
  for (int code : {0, -1, 99}) {
    options.spawn = [code](const std::vector<std::string>&, int socket) -> absl::StatusOr<std::unique_ptr<Service>> {
      wire::FromHost lie;
      lie.mutable_failed()->set_code(code);
      lie.mutable_failed()->set_error("all is well");
      TANDEM_RETURN_IF_ERROR(SendPacket(socket, lie.SerializeAsString()));
      return testing::StartService({"/bin/sleep", "1000"}, socket);
    };
    absl::Status status = LoadRemote(options).status();
    EXPECT_EQ(status.raw_code(), static_cast<int>(absl::StatusCode::kInternal)) << code;
    EXPECT_EQ(std::string(status.message()), "all is well");
  }
}

TEST_F(RemoteTest, TheChildEndsWithTheServerAlsoInAnEndlessRun) {
  RemoteOptions options = Prepare("gate", "m", "fine");
  auto sockets = MakePacketPair();
  ASSERT_TRUE(sockets.ok());
  auto service = testing::StartService({std::string(TANDEM_BIN_DIR) + "/tandem-engine-host", "serve", "--engine",
                                        "gate", "--folder", options.folder, "--fd", "3"},
                                       sockets->second.get());
  ASSERT_TRUE(service.ok());
  sockets->second.Reset();
  ASSERT_TRUE(ReceivePacket(sockets->first.get(), 20000).ok());
  auto run = MakePacketPair();
  absl::StatusOr<Arena> arena = Arena::Create();
  ASSERT_TRUE(arena.ok());
  wire::MakeInstance make;
  make.set_number(1);
  ASSERT_TRUE(SendPacket(sockets->first.get(), make.SerializeAsString(), {run->second.get(), arena->fd()}).ok());
  ASSERT_TRUE(ReceivePacket(sockets->first.get(), 20000).ok());
  ASSERT_TRUE(arena->Reserve(128).ok());
  const float hang = -11;
  std::memcpy(arena->data(), &hang, sizeof hang);
  RunSocket socket(std::move(run->first));
  ASSERT_TRUE(socket.Send(arena->size(),
                          {MakeRunTensor(DType::kFloat32, {1}, 0, 4), MakeRunTensor(DType::kInt32, {2}, 64, 8)}));
  sockets->first.Reset();  // as when the server dies; the run's own socket stays
  EXPECT_EQ(AwaitEnding((*service)->pidfd(), 20000), (Ending{Ending::Kind::kExit, 0}));
}

}  // namespace
}  // namespace tandem::engine
