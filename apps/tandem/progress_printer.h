#pragma once
// Shows a job's progress while it is followed: one line that changes on a terminal, else a line now and then.
#include <string>

#include "api.pb.h"
#include "tandem/terminal.h"

namespace tandem::cli {

// Thread-compatible.
class ProgressPrinter {
 public:
  ProgressPrinter(int fd, const Style& style);
  // `now_s`: any clock. Off a terminal it prints when the state, the phase or the epoch changed, and every 10 s; a line
  // that would say the same again is left out. How the job ended is for the caller to tell.
  void Update(const wire::Job& job, double now_s);
  // Leaves the changing line as it is and begins a new one.
  void Finish();

 private:
  bool Due(const wire::Job& job, double now_s) const;

  int fd_;
  bool terminal_;
  Style style_;
  bool open_ = false;  // the changing line is on the screen
  std::string last_state_, last_phase_, last_line_;
  int last_epoch_ = -1;
  double last_print_s_ = -1e9;
};

}  // namespace tandem::cli
