#include "tandem/load_client.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <deque>
#include <thread>

#include "base/clock.h"
#include "base/fd.h"
#include "base/status.h"
#include "tandem/load_protocol.h"

namespace tandem::cli {
namespace {

constexpr int64_t kStartNanos = 5'000'000;  // for the threads to be there
constexpr int kLookAroundMs = 200;          // how often time-outs and a stop are noticed

int64_t Now() { return Clock::Real()->MonotonicNanos(); }

// What all threads read; `stop` is the only thing that changes.
struct Plan {
  LoadSettings settings;
  int64_t begin_nanos = 0, end_nanos = 0;
  std::atomic<bool> stop{false};
};

absl::StatusOr<UniqueFd> Connect(const std::string& address) {
  size_t colon = address.rfind(':');
  if (colon == address.npos) return InvalidArgument("'", address, "' is not HOST:PORT");
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  if (getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) {
    return InvalidArgument("'", address, "' is not a numeric HOST:PORT");
  }
  UniqueFd fd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int error = !fd.valid() || connect(fd.get(), found->ai_addr, found->ai_addrlen) != 0 ? errno : 0;
  freeaddrinfo(found);
  if (error != 0) return ErrnoStatus(error, StrCat("connect to ", address));
  int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

// One kept connection, with at most one request on it.
struct Connection {
  UniqueFd fd;
  bool busy = false, counted = false;
  int64_t scheduled = 0;
  size_t written = 0;  // of the request
  std::string received;
  std::optional<AnswerHead> head;
};

// One thread: its connections and its part of the arrivals.
class Worker {
 public:
  // `due`: monotonic nanoseconds, rising; those before the plan's begin do not count. Empty = closed loop.
  Worker(Plan* plan, std::vector<int64_t> due, int connections)
      : plan_(*plan), due_(std::move(due)), connections_(connections) {
    size_t expected = due_.empty() ? 1 << 16 : due_.size();
    result_.latencies_ms.reserve(expected);
    result_.delays_us.reserve(expected);
  }

  absl::Status Open() {
    epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
    timer_ = UniqueFd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    if (!epoll_.valid() || !timer_.valid()) return ErrnoStatus(errno, "prepare the load");
    epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.ptr = nullptr}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, timer_.get(), &event) != 0) return ErrnoStatus(errno, "watch the timer");
    for (Connection& connection : connections_) {
      TANDEM_RETURN_IF_ERROR(Reopen(connection));
      free_.push_back(&connection);
    }
    return absl::OkStatus();
  }

  void Start() {
    thread_ = std::thread([this] { Run(); });
  }
  bool done() const { return done_; }

  LoadResult Finish() {
    if (thread_.joinable()) thread_.join();
    return std::move(result_);
  }
  int64_t last_answer() const { return last_answer_; }  // after Finish

 private:
  bool closed_loop() const { return plan_.settings.rate <= 0; }

  void Run() {
    sched_param priority{.sched_priority = plan_.settings.fifo_priority};
    result_.realtime =
        priority.sched_priority > 0 && sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority) == 0;
    prctl(PR_SET_TIMERSLACK, 1);  // wakes when asked to, not up to 50 us later
    while (true) {
      SendDue();
      if (busy_ == 0 && NothingLeft()) break;
      Wait();
      ExpireOld();
    }
    timespec used{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    result_.client_cpu_s = static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
    done_ = true;
  }

  bool NothingLeft() const {
    if (plan_.stop || broken_) return true;
    return closed_loop() ? Now() >= plan_.end_nanos : next_ == due_.size();
  }

  // Sends what is due, as far as connections are free. `now` is read anew for each request: sending takes time.
  void SendDue() {
    while (!free_.empty() && !NothingLeft()) {
      const int64_t now = Now();
      const int64_t scheduled = closed_loop() ? now : due_[next_];
      if (scheduled > now) return Arm(scheduled);
      next_ += closed_loop() ? 0 : 1;
      Connection& connection = *free_.front();
      free_.pop_front();
      connection.scheduled = scheduled;
      connection.counted = scheduled >= plan_.begin_nanos;
      if (connection.counted) CountSent(scheduled, now);
      Send(connection);
    }
  }

  void CountSent(int64_t scheduled, int64_t now) {
    ++result_.sent;
    if (closed_loop()) return;
    if (scheduled < free_since_) {
      ++result_.waited;
    } else {
      result_.delays_us.push_back(static_cast<float>(static_cast<double>(now - scheduled) / 1e3));
    }
  }

  void Arm(int64_t nanos) {
    itimerspec when{};
    when.it_value = {.tv_sec = nanos / 1'000'000'000, .tv_nsec = nanos % 1'000'000'000};
    timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
  }

  void Wait() {
    std::array<epoll_event, 64> events;
    int count = epoll_wait(epoll_.get(), events.data(), events.size(), kLookAroundMs);
    for (int i = 0; i < count; ++i) {
      auto* connection = static_cast<Connection*>(events[i].data.ptr);
      if (connection == nullptr) continue;  // the timer: SendDue looks at the clock
      if (connection->busy && (events[i].events & EPOLLOUT) != 0) Write(*connection);
      if ((events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) Read(*connection);
    }
  }

  void Send(Connection& connection) {
    connection.busy = true;
    connection.written = 0;
    connection.received.clear();
    connection.head.reset();
    ++busy_;
    if (!connection.fd.valid()) {
      absl::Status opened = Reopen(connection);
      if (!opened.ok()) {
        broken_ = true;  // nobody listens any more: the rest would fail too
        return Fail(connection, MessageOf(opened));
      }
    }
    Write(connection);
  }

  void Write(Connection& connection) {
    const std::string& request = plan_.settings.request;
    while (connection.written < request.size()) {
      ssize_t sent = send(connection.fd.get(), request.data() + connection.written, request.size() - connection.written,
                          MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) return;  // goes on with EPOLLOUT
      if (sent < 0) return Fail(connection, "the connection broke while the request was sent");
      connection.written += sent;
    }
  }

  void Read(Connection& connection) {
    while (connection.fd.valid()) {
      ssize_t got = recv(connection.fd.get(), piece_.data(), piece_.size(), MSG_DONTWAIT);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0 && connection.busy) return Fail(connection, "the server closed the connection instead of answering");
      if (got <= 0 || !connection.busy) return connection.fd.Reset();  // closed while idle, or said what nobody asked
      connection.received.append(piece_.data(), got);
      if (Answered(connection) || static_cast<size_t>(got) < piece_.size()) return;
    }
  }

  // True if the answer is over, for better or worse.
  bool Answered(Connection& connection) {
    if (!connection.head) {
      absl::StatusOr<std::optional<AnswerHead>> head = ParseAnswerHead(connection.received);
      if (!head.ok()) return Fail(connection, MessageOf(head.status())), true;
      connection.head = *head;
    }
    if (!connection.head || connection.received.size() < connection.head->total) return false;
    if (connection.head->code != 200) {
      Fail(connection, StrCat("HTTP ", connection.head->code, ": ", connection.received.substr(0, 400)));
      return true;
    }
    last_answer_ = Now();
    if (connection.counted) {
      double nanos = static_cast<double>(last_answer_ - connection.scheduled);
      result_.latencies_ms.push_back(static_cast<float>(nanos / 1e6));
    }
    if (connection.head->close) connection.fd.Reset();
    Release(connection);
    return true;
  }

  void Fail(Connection& connection, std::string_view why) {
    last_answer_ = Now();
    if (connection.counted) ++result_.failures;
    if (result_.first_error.empty()) result_.first_error = why;
    connection.fd.Reset();
    Release(connection);
  }

  void Release(Connection& connection) {
    connection.busy = false;
    --busy_;
    if (free_.empty()) free_since_ = last_answer_;
    free_.push_back(&connection);
  }

  void ExpireOld() {
    const int64_t now = Now();
    if (now < next_look_) return;
    next_look_ = now + int64_t{kLookAroundMs} * 1'000'000;
    const int64_t oldest = now - static_cast<int64_t>(plan_.settings.timeout_s * 1e9);
    for (Connection& connection : connections_) {
      if (connection.busy && connection.scheduled < oldest) Fail(connection, "no answer in time");
    }
  }

  absl::Status Reopen(Connection& connection) {
    TANDEM_ASSIGN_OR_RETURN(connection.fd, Connect(plan_.settings.address));
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = &connection}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection.fd.get(), &event) != 0) return ErrnoStatus(errno, "watch");
    return absl::OkStatus();
  }

  const Plan& plan_;
  const std::vector<int64_t> due_;
  size_t next_ = 0;
  UniqueFd epoll_, timer_;
  std::vector<Connection> connections_;
  std::deque<Connection*> free_;  // the one that idled longest goes first
  int busy_ = 0;
  bool broken_ = false;
  int64_t free_since_ = 0, next_look_ = 0, last_answer_ = 0;
  std::vector<char> piece_ = std::vector<char>(64 << 10);
  LoadResult result_;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

class Load : public LoadClient {
 public:
  absl::Status Begin(const LoadSettings& settings) {
    plan_.settings = settings;
    if (settings.rate > 0 && settings.requests < 1) return InvalidArgument("a load needs 1 request or more");
    const int threads = std::clamp(settings.threads, 1, settings.connections);
    std::vector<std::vector<int64_t>> due(threads);
    Schedule(&due);
    for (int i = 0; i < threads; ++i) {
      int connections = settings.connections / threads + (i < settings.connections % threads ? 1 : 0);
      workers_.push_back(std::make_unique<Worker>(&plan_, std::move(due[i]), connections));
      TANDEM_RETURN_IF_ERROR(workers_.back()->Open());
    }
    for (auto& worker : workers_) worker->Start();
    return absl::OkStatus();
  }
  ~Load() override {
    plan_.stop = true;
    for (auto& worker : workers_) worker->Finish();
  }

  int64_t begin_nanos() const override { return plan_.begin_nanos; }
  int64_t end_nanos() const override { return plan_.end_nanos; }
  bool Done() const override {
    return std::all_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker->done(); });
  }
  void Stop() override { plan_.stop = true; }

  LoadResult Finish() override {
    LoadResult all;
    int64_t last_answer = plan_.begin_nanos;
    for (auto& worker : workers_) {
      LoadResult part = worker->Finish();
      last_answer = std::max(last_answer, worker->last_answer());
      all.latencies_ms.insert(all.latencies_ms.end(), part.latencies_ms.begin(), part.latencies_ms.end());
      all.delays_us.insert(all.delays_us.end(), part.delays_us.begin(), part.delays_us.end());
      all.sent += part.sent;
      all.failures += part.failures;
      all.waited += part.waited;
      all.client_cpu_s += part.client_cpu_s;
      all.realtime = all.realtime && part.realtime;
      if (all.first_error.empty()) all.first_error = part.first_error;
    }
    std::sort(all.latencies_ms.begin(), all.latencies_ms.end());
    std::sort(all.delays_us.begin(), all.delays_us.end());
    all.seconds = static_cast<double>(last_answer - plan_.begin_nanos) * 1e-9;
    return all;
  }

 private:
  // Fixes begin and end, and deals the arrivals to the threads in turns.
  void Schedule(std::vector<std::vector<int64_t>>* due) {
    const LoadSettings& settings = plan_.settings;
    const auto lead_in = static_cast<int64_t>(settings.lead_in_s * 1e9);
    if (settings.rate <= 0) {
      plan_.begin_nanos = Now() + kStartNanos + lead_in;
      plan_.end_nanos = plan_.begin_nanos + static_cast<int64_t>(settings.seconds * 1e9);
      return;
    }
    Arrivals arrivals = PoissonArrivals(settings.rate, settings.lead_in_s, settings.requests, settings.seed);
    const int64_t start = Now() + kStartNanos;
    for (size_t i = 0; i < arrivals.offsets.size(); ++i) {
      (*due)[i % due->size()].push_back(start + arrivals.offsets[i]);
    }
    plan_.begin_nanos = start + arrivals.offsets[arrivals.lead_in];
    plan_.end_nanos = start + arrivals.offsets.back();
  }

  Plan plan_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LoadClient>> LoadClient::Start(const LoadSettings& settings) {
  auto load = std::make_unique<Load>();
  TANDEM_RETURN_IF_ERROR(load->Begin(settings));
  return load;
}

}  // namespace tandem::cli
