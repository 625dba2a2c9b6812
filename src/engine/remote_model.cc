#include "engine/remote_model.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/status.h"
#include "base/text.h"
#include "telemetry/log.h"

namespace tandem::engine {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kHealthyNanos = 60 * kSecond;
constexpr int64_t kLongestWaitNanos = 30 * kSecond;
constexpr int kEndMillis = 5000;
// A request that was in the child waits this long to learn how it ended: the socket closes moments before.
constexpr int kEndOfRunMillis = 1000;

void Signal(const UniqueFd& eventfd) {
  const uint64_t one = 1;
  // Full means signalled already.
  if (write(eventfd.get(), &one, sizeof one) < 0) return;
}

}  // namespace

int64_t Backoff::NextNanos(int64_t lived_nanos) {
  if (lived_nanos >= kHealthyNanos) failures_ = 0;
  const int64_t wait = std::min(kSecond << std::min(failures_, 10), kLongestWaitNanos);
  ++failures_;
  return wait;
}

// Its link is of whoever took its state from kDown (with the model's mutex held) or to kBusy; it is made and destroyed
// with that mutex held.
class RemoteInstance : public Instance {
 public:
  explicit RemoteInstance(RemoteModel* model) : model_(model) {}
  ~RemoteInstance() override { model_->Forget(this); }

  absl::Status Run(const std::vector<InputView>& inputs, std::vector<Tensor>* outputs) override {
    State idle = State::kIdle;
    if (!state_.compare_exchange_strong(idle, State::kBusy)) return model_->WhyDown();
    RunLink::Result result = link_->Run(inputs, model_->outputs_, outputs);
    if (result.end == RunLink::End::kAnswered) {
      state_ = State::kIdle;
      // Bury may have found this instance busy and left.
      if (model_->ended_) model_->Wake();
      return result.status;
    }
    absl::Status status = model_->Lost(*link_, result);
    state_ = State::kDown;
    model_->Wake();
    return status;
  }

  void StartRequests() override { model_->StartRequests(this); }

 private:
  friend class RemoteModel;
  enum class State { kDown, kIdle, kBusy };
  RemoteModel* const model_;
  std::atomic<State> state_{State::kDown};
  std::unique_ptr<RunLink> link_;
  bool for_requests_ = false;  // guarded by the model's mutex
};

absl::StatusOr<std::unique_ptr<RemoteModel>> RemoteModel::Load(RemoteOptions options) {
  if (options.cpu == nullptr) options.cpu = std::make_shared<ChildCpu>();
  std::unique_ptr<RemoteModel> model(new RemoteModel(std::move(options)));
  model->wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  model->stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!model->wake_.valid() || !model->stop_.valid()) return ErrnoStatus(errno, "eventfd");
  TANDEM_ASSIGN_OR_RETURN(model->host_, HostProcess::Start(model->options_, model->stop_.get()));
  model->inputs_ = model->host_->inputs();
  model->outputs_ = model->host_->outputs();
  model->up_nanos_ = model->options_.clock->MonotonicNanos();
  if (!model->options_.supervise) return model;
  model->keeper_ = std::jthread([raw = model.get()](const std::stop_token& stop) {
    for (raw->Wait(-1); !stop.stop_requested(); raw->Wait(-1)) raw->Step();
  });
  return model;
}

RemoteModel::~RemoteModel() {
  keeper_.request_stop();
  Signal(stop_);
  Wake();
}

absl::StatusOr<std::unique_ptr<Instance>> RemoteModel::MakeInstance() {
  auto instance = std::make_unique<RemoteInstance>(this);  // before the lock: its end takes it
  std::lock_guard lock(mutex_);
  if (host_ == nullptr || ended_) return WhyDown();
  TANDEM_RETURN_IF_ERROR(Link(instance.get()));
  instances_.push_back(instance.get());
  return instance;
}

void RemoteModel::StartRequests(RemoteInstance* instance) {
  std::lock_guard lock(mutex_);
  instance->for_requests_ = true;  // of its links to children to come, too
  if (instance->link_ != nullptr && !ended_) host_->StartRequests(*instance->link_);
}

void RemoteModel::Forget(RemoteInstance* instance) {
  std::lock_guard lock(mutex_);
  std::erase(instances_, instance);
  if (instance->link_ == nullptr) return;
  host_->EndLink(*instance->link_);
  instance->link_.reset();
}

absl::Status RemoteModel::Link(RemoteInstance* instance) {
  TANDEM_ASSIGN_OR_RETURN(instance->link_, host_->MakeLink(options_, stop_.get()));
  if (instance->for_requests_) host_->StartRequests(*instance->link_);
  instance->state_ = RemoteInstance::State::kIdle;
  return absl::OkStatus();
}

absl::Status RemoteModel::WhyDown() const {
  const int64_t next = next_start_nanos_;
  const int64_t left = next == 0 ? kSecond : next - options_.clock->MonotonicNanos();
  return Unavailable("the engine of ", options_.what, " ", Describe(ending_), ", and is being restarted; try again in ",
                     std::max<int64_t>(1, (left + kSecond - 1) / kSecond), " s");
}

absl::Status RemoteModel::Lost(const RunLink& link, const RunLink::Result& result) {
  const std::string engine = StrCat(options_.what, ": the process of engine '", options_.engine, "' ");
  ended_ = true;  // whatever still lives of it is not to be trusted
  if (result.end == RunLink::End::kLate) {
    ending_ = Ending{Ending::Kind::kTooSlow};
    link.Kill();
    return DeadlineExceeded(options_.what, ": the run took longer than ", HumanSeconds(options_.run_timeout_s),
                            " (run_timeout_s); the engine's process was stopped and is being replaced");
  }
  if (result.end == RunLink::End::kNonsense) {
    link.Kill();
    return Internal(engine, "answered with ", MessageOf(result.status), "; it was stopped and is being replaced");
  }
  const Ending ending = link.AwaitEnd(kEndOfRunMillis);
  if (ending_.load() == Ending{Ending::Kind::kTooSlow}) {
    return Unavailable(engine, "was stopped because another run in it took too long; try again");
  }
  ending_ = ending;
  return Internal(engine, Describe(ending), " while this request ran in it; it is being restarted");
}

void RemoteModel::Wake() const { Signal(wake_); }

bool RemoteModel::HasEnded() const {
  pollfd control = {.fd = host_->control_fd()};  // its end alone: an answer may be on its way to MakeInstance
  return poll(&control, 1, 0) > 0;
}

void RemoteModel::Wait(int timeout_ms) {
  int64_t wait = timeout_ms;
  if (host_ == nullptr) {
    const int64_t left = std::max<int64_t>(0, next_start_nanos_ - options_.clock->MonotonicNanos());
    const int64_t left_ms = (left + 999'999) / 1'000'000;
    wait = wait < 0 ? left_ms : std::min(wait, left_ms);
  }
  // A child that has ended but is still waited for by runs would be readable for ever: their ends wake.
  const int control = host_ == nullptr || ended_ ? -1 : host_->control_fd();
  pollfd entries[] = {{.fd = wake_.get(), .events = POLLIN}, {.fd = control}};
  uint64_t count = 0;
  if (poll(entries, 2, static_cast<int>(wait)) > 0 && read(wake_.get(), &count, sizeof count) < 0) return;
}

void RemoteModel::Step() {
  if (host_ != nullptr && (ended_ || HasEnded()) && !Bury()) return;
  if (host_ == nullptr && options_.clock->MonotonicNanos() >= next_start_nanos_) Start();
}

bool RemoteModel::Bury() {
  ended_ = true;
  host_->service().Kill();
  const Ending ending = AwaitEnding(host_->service().pidfd(), kEndMillis);
  std::lock_guard lock(mutex_);
  bool busy = false;
  for (RemoteInstance* instance : instances_) {
    RemoteInstance::State idle = RemoteInstance::State::kIdle;
    instance->state_.compare_exchange_strong(idle, RemoteInstance::State::kDown);
    busy = busy || idle == RemoteInstance::State::kBusy;
  }
  if (busy) return false;
  for (RemoteInstance* instance : instances_) instance->link_.reset();
  if (ending_.load() != Ending{Ending::Kind::kTooSlow}) ending_ = ending;
  PutOff(options_.clock->MonotonicNanos() - up_nanos_);
  Log(LogLevel::kError, "the process of an engine ended",
      {{"model", options_.what}, {"engine", options_.engine}, {"it", Describe(ending_)}});
  host_.reset();
  ended_ = false;
  return true;
}

void RemoteModel::Start() {
  absl::StatusOr<std::unique_ptr<HostProcess>> host = HostProcess::Start(options_, stop_.get());
  std::lock_guard lock(mutex_);
  if (!host.ok()) {
    if (absl::IsCancelled(host.status())) return;  // unloaded meanwhile
    Log(LogLevel::kError, "the process of an engine could not be started",
        {{"model", options_.what}, {"engine", options_.engine}, {"error", MessageOf(host.status())}});
    ending_ = Ending{Ending::Kind::kNotStarted};
    return PutOff(0);
  }
  host_ = *std::move(host);
  ending_ = Ending();
  next_start_nanos_ = 0;
  up_nanos_ = options_.clock->MonotonicNanos();
  for (RemoteInstance* instance : instances_) {
    absl::Status linked = Link(instance);
    if (linked.ok()) continue;
    // An instance that cannot be made: the next look finds the child ended, and puts the next start off.
    Log(LogLevel::kError, "an instance could not be made again",
        {{"model", options_.what}, {"error", MessageOf(linked)}});
    return host_->service().Kill();
  }
  Log(LogLevel::kInfo, "the process of an engine was restarted", {{"model", options_.what}});
}

void RemoteModel::PutOff(int64_t lived_nanos) {
  next_start_nanos_ = options_.clock->MonotonicNanos() + backoff_.NextNanos(lived_nanos);
}

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadRemote(RemoteOptions options) {
  return RemoteModel::Load(std::move(options));
}

}  // namespace tandem::engine
