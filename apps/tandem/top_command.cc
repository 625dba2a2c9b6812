#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "base/text.h"
#include "tandem/commands.h"
#include "tandem/job_text.h"
#include "tandem/status_text.h"
#include "tandem/top_frame.h"

namespace tandem::cli {
namespace {

struct TopOptions {
  bool once = false;
  double interval = 1;
};

// The alternate screen with keys that arrive at once and unseen, while it lives.
class FullScreen {
 public:
  FullScreen() {
    tcgetattr(STDIN_FILENO, &before_);
    termios raw = before_;
    raw.c_lflag &= ~(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    Put("\033[?1049h\033[?25l");
  }
  ~FullScreen() {
    Put("\033[?25h\033[?1049l");
    tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  FullScreen(const FullScreen&) = delete;

  void Draw(std::string_view frame) {
    std::string out = "\033[H";
    for (char c : frame) out += c == '\n' ? std::string("\033[K\r\n") : std::string(1, c);
    Put(out + "\033[J");
  }

  // True when q was pressed (or Ctrl-C) within the time.
  bool WaitForQuit(double seconds) {
    pollfd wait{STDIN_FILENO, POLLIN, 0};
    int ready = poll(&wait, 1, static_cast<int>(seconds * 1000));
    if (Interrupts() > 0) return true;
    char key = 0;
    return ready > 0 && (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q');
  }

 private:
  static void Put(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  termios before_{};
};

int TerminalHeight() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
}

absl::StatusOr<Exit> RunLive(Session& session, client::Client& client, double interval) {
  TANDEM_ASSIGN_OR_RETURN(wire::Status status, client.admin().Status());  // an error before the screen is taken
  CatchInterrupts();
  FullScreen screen;
  while (true) {
    screen.Draw(TopFrame(status, TerminalWidth(STDOUT_FILENO), TerminalHeight() - 1, session.style));
    if (screen.WaitForQuit(interval)) return Exit::kOk;
    absl::StatusOr<wire::Status> next = client.admin().Status();
    if (absl::IsCancelled(next.status())) return Exit::kOk;
    TANDEM_RETURN_IF_ERROR(next.status());
    status = *std::move(next);
  }
}

absl::StatusOr<Exit> RunStream(Session& session, client::Client& client, double interval) {
  CatchInterrupts();
  while (Interrupts() == 0) {
    absl::StatusOr<wire::Status> status = client.admin().Status();
    if (absl::IsCancelled(status.status())) break;
    TANDEM_RETURN_IF_ERROR(status.status());
    session.PrintJson(*status);
    poll(nullptr, 0, static_cast<int>(interval * 1000));  // ended by Ctrl-C
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunTop(Session& session, const TopOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  if (!options.once && session.json) return RunStream(session, *client, options.interval);
  if (!options.once && terminal) return RunLive(session, *client, options.interval);
  TANDEM_ASSIGN_OR_RETURN(wire::Status status, client->admin().Status());
  if (session.json) {
    session.PrintJson(status);
  } else {
    session.Print(TopFrame(status, TerminalWidth(STDOUT_FILENO), 1000, session.style));
  }
  return Exit::kOk;
}

// "serving ████ training ████ ..." in `columns` cells, largest remainder so that the cells add up.
std::string CpuBar(const wire::CpuSplit& cpu, int columns, const Style& style) {
  int serving = static_cast<int>(std::lround(cpu.serving() * columns));
  int training = static_cast<int>(std::lround((cpu.serving() + cpu.training()) * columns)) - serving;
  int other = static_cast<int>(std::lround((1 - cpu.idle()) * columns)) - serving - training;
  auto cells = [](int count, std::string_view cell) {
    std::string text;
    for (int i = 0; i < count; ++i) text += cell;
    return text;
  };
  int idle = columns - serving - training - std::max(other, 0);
  return StrCat(style.Green(cells(serving, "█")), style.Yellow(cells(training, "▓")), style.Dim(cells(other, "▒")),
                cells(idle, "·"));
}

}  // namespace

std::string TopFrame(const wire::Status& status, int columns, int rows, const Style& style) {
  const wire::CpuSplit& cpu = status.cpu();
  std::string out = StrCat(style.Bold("tandem "), status.version(), "  ", status.http(), "  up ",
                           HumanSeconds(status.uptime_s()), "  memory ", HumanBytes(status.memory_bytes()), "\n");
  StrAppend(&out, "isolation: ", status.rung().empty() ? status.isolation() : status.rung());
  StrAppend(&out, status.policy().empty() ? "" : "  policy: ", status.policy(), "\n");
  StrAppend(&out, "CPU ", CpuBar(cpu, std::clamp(columns - 8, 10, 60), style), "\n");
  StrAppend(&out, "    ", style.Green("█"), " serving ", Percent(cpu.serving()), "  ", style.Yellow("▓"), " training ",
            Percent(cpu.training()), "  ", style.Dim("▒"), " other ", Percent(cpu.other()), "  · idle ",
            Percent(cpu.idle()), "  steal ", Percent(cpu.steal()), "\n\n");
  out += status.served_size() > 0 ? ServedTable(status).Render(style) : "nothing is served\n";
  out += "\n";
  if (status.active_jobs_size() == 0) out += "no job is active\n";
  for (const wire::Job& job : status.active_jobs()) {
    std::string head = StrCat("job ", job.job(), " ", job.name(), " ", job.state(), "  ");
    std::string reason = WaitReason(job);
    out += head + (reason.empty() ? ProgressLine(job, std::max(20, columns - DisplayWidth(head)), style) : reason);
    out += "\n";
  }
  for (const std::string& notice : status.notices()) StrAppend(&out, style.Yellow("notice "), notice, "\n");
  return CutToScreen(out, columns, rows);
}

std::string CutToScreen(const std::string& text, int columns, int rows) {
  std::string out;
  size_t at = 0;
  for (int row = 0; row < rows && at < text.size(); ++row) {
    size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    out += Truncated(line, columns) + "\n";
    at = end + 1;
  }
  return out;
}

void AddTopCommand(Command& root, Session& session) {
  auto options = std::make_shared<TopOptions>();
  root.Add("top", "Live view: requests, p50 and p99, jobs, CPU split; q quits")
      .Flag("--once", &options->once, "Print one frame and end; so does output that is no terminal")
      .Option("--interval", &options->interval, "Seconds between two looks")
      .Example("top")
      .Example("top --once")
      .Example("top --json --interval 5")
      .Run([&session, options] { return RunTop(session, *options); });
}

}  // namespace tandem::cli
