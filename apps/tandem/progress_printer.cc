#include "tandem/progress_printer.h"

#include <unistd.h>

#include "base/fd.h"
#include "base/strings.h"
#include "client/client.h"
#include "tandem/job_text.h"

namespace tandem::cli {
namespace {

constexpr double kQuietSeconds = 10;
constexpr int kPlainColumns = 120;

void Put(int fd, std::string_view text) {
  // A reader that went away ends the program by SIGPIPE; other failures lose a line of progress only.
  WriteAll(fd, text).IgnoreError();
}

}  // namespace

ProgressPrinter::ProgressPrinter(int fd, const Style& style) : fd_(fd), terminal_(isatty(fd)), style_(style) {}

bool ProgressPrinter::Due(const wire::Job& job, double now_s) const {
  // The bar of a job that succeeded is left full on the screen.
  if (client::HasEnded(job) && !(terminal_ && job.state() == "succeeded")) return false;
  return terminal_ || job.state() != last_state_ || job.progress().phase() != last_phase_ ||
         job.progress().epoch() != last_epoch_ || now_s - last_print_s_ >= kQuietSeconds;
}

void ProgressPrinter::Update(const wire::Job& job, double now_s) {
  if (!Due(job, now_s)) return;
  std::string line = ProgressLine(job, terminal_ ? TerminalWidth(fd_) - 1 : kPlainColumns, style_);
  if (job.state() != "running" && !job.reason().empty()) {
    line = Truncated(StrCat(job.state(), ": ", job.reason()), terminal_ ? TerminalWidth(fd_) - 1 : 1000);
  }
  bool repeated = !terminal_ && line == last_line_ && now_s - last_print_s_ < kQuietSeconds;
  last_state_ = job.state();
  last_phase_ = job.progress().phase();
  last_epoch_ = job.progress().epoch();
  if (repeated) return;
  last_print_s_ = now_s;
  last_line_ = line;
  Put(fd_, terminal_ ? StrCat("\r\033[K", line) : line + "\n");
  open_ = terminal_;
}

void ProgressPrinter::Finish() {
  if (open_) Put(fd_, "\n");
  open_ = false;
}

}  // namespace tandem::cli
