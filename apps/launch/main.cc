// tandem-launch: becomes a child process of the daemon in a safe state, then executes it.
//
//   tandem-launch [--join=FILE=TEXT]... [--limit-data=BYTES] [--keep-class] [--output=FILE] [--chdir=DIR]
//                 [--keep-socket] -- PROGRAM ARG...
//
// A session of its own, joined to its resource group, normal scheduling class, nice 19 where no group holds it (unless
// --keep-class), without the rights to raise itself again, no descriptor but 0-2 and (with --keep-socket) 3. Exits 127
// when PROGRAM cannot be run.
//
//   tandem-launch --burn-ms=N
//
// The busy program that run delay is measured beside: writes a byte to descriptor 3 and computes for N milliseconds.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <string>

namespace {

void Complain(const char* what, const char* object) {
  fprintf(stderr, "tandem-launch: %s '%s': %s\n", what, object, strerror(errno));
}

// spec is FILE=TEXT; an empty TEXT stands for this process's pid.
bool Join(const std::string& spec) {
  size_t split = spec.rfind('=');
  std::string file = spec.substr(0, split), text = spec.substr(split + 1);
  if (text.empty()) text = std::to_string(getpid());
  int fd = open(file.c_str(), O_WRONLY | O_CLOEXEC);
  bool ok = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (!ok) Complain("cannot join", file.c_str());
  if (fd >= 0) close(fd);
  return ok;
}

// A job must not be able to raise its class, leave its group or touch the machine, also when it runs as root.
void DropRights() {
  for (int capability : {CAP_SYS_NICE, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_BOOT,
                         CAP_SYS_TIME, CAP_NET_ADMIN, CAP_SYS_RESOURCE, CAP_MKNOD}) {
    prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);  // fails without CAP_SETPCAP: then there was nothing to drop
  }
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  rlimit none = {0, 0};
  setrlimit(RLIMIT_RTPRIO, &none);
  setrlimit(RLIMIT_NICE, &none);
}

// What malloc and stacks may take: the program sees a failed allocation, and says so.
bool LimitData(const char* bytes) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_DATA, &limit) != 0) return false;
  const rlim_t wanted = strtoull(bytes, nullptr, 10);
  limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
  return setrlimit(RLIMIT_DATA, &limit) == 0;
}

int64_t NowNanos() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

int Burn(const char* ms) {
  const int64_t end = NowNanos() + strtoll(ms, nullptr, 10) * 1'000'000;
  if (write(3, "b", 1) != 1) return 1;  // nobody measures
  while (NowNanos() < end) {
  }
  return 0;
}

bool Redirect(const char* file) {
  int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  dup2(fd, 1);
  dup2(fd, 2);
  close(fd);
  return true;
}

struct Wishes {
  bool joined = true, in_group = false, keep_class = false, keep_socket = false;
  int program = 0;  // its place in argv; 0 = a wish could not be fulfilled, which has been said
};

// Does each argument up to "--" as it comes.
Wishes Obey(int argc, char** argv) {
  Wishes wishes;
  int i = 1;
  for (; i < argc && strcmp(argv[i], "--") != 0; ++i) {
    std::string argument = argv[i];
    const char* value = strchr(argv[i], '=') == nullptr ? "" : strchr(argv[i], '=') + 1;
    if (argument.rfind("--join=", 0) == 0) {
      bool ok = Join(value);
      wishes.joined = wishes.joined && ok;
      wishes.in_group = wishes.in_group || (ok && argument.find("cgroup.procs") != std::string::npos);
    } else if (argument.rfind("--limit-data=", 0) == 0) {
      if (!LimitData(value)) Complain("cannot limit data to", value);
    } else if (argument.rfind("--output=", 0) == 0) {
      if (!Redirect(value)) return Complain("cannot write", value), Wishes();
    } else if (argument.rfind("--chdir=", 0) == 0) {
      if (chdir(value) != 0) return Complain("cannot enter", value), Wishes();
    } else if (argument == "--keep-class") {
      wishes.keep_class = true;
    } else if (argument == "--keep-socket") {
      wishes.keep_socket = true;
    } else {
      fprintf(stderr, "tandem-launch: unknown argument '%s'; it is for tandemd, not for people\n", argv[i]);
      return Wishes();
    }
  }
  if (i + 1 >= argc) {
    fprintf(stderr, "tandem-launch: no program after '--'\n");
    return Wishes();
  }
  wishes.program = i + 1;
  return wishes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && strncmp(argv[1], "--burn-ms=", 10) == 0) return Burn(argv[1] + 10);
  setsid();
  const Wishes wishes = Obey(argc, argv);
  if (wishes.program == 0) return 127;
  sched_param parameters = {};
  sched_setscheduler(0, SCHED_OTHER, &parameters);
  prctl(PR_SET_TIMERSLACK, 50'000UL, 0UL, 0UL, 0UL);  // the kernel's default, whoever started us
  // Inside a group of the lowest weight nice changes nothing but the share among siblings; outside it is all there is.
  if (!wishes.keep_class && (!wishes.in_group || !wishes.joined)) setpriority(PRIO_PROCESS, 0, 19);
  DropRights();
  int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null_fd >= 0) dup2(null_fd, 0);
  if (wishes.keep_socket) fcntl(3, F_SETFD, 0);
  syscall(SYS_close_range, wishes.keep_socket ? 4u : 3u, ~0u, 0u);
  execv(argv[wishes.program], argv + wishes.program);
  Complain("cannot run", argv[wishes.program]);
  return 127;
}
