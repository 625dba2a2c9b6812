// tandem-launch: becomes a child process of the daemon in a safe state, then executes it.
//
//   tandem-launch [--join=FILE=TEXT]... [--output=FILE] [--chdir=DIR] [--keep-socket] -- PROGRAM ARG...
//
// A session of its own, joined to its resource group, normal scheduling class, nice 19 where no group holds it, without
// the rights to raise itself again, no descriptor but 0-2 and (with --keep-socket) 3. Exits 127 when PROGRAM cannot be
// run.
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
#include <unistd.h>

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

bool Redirect(const char* file) {
  int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  dup2(fd, 1);
  dup2(fd, 2);
  close(fd);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  setsid();
  bool joined = true, in_group = false, keep_socket = false;
  int i = 1;
  for (; i < argc && strcmp(argv[i], "--") != 0; ++i) {
    std::string argument = argv[i];
    if (argument.rfind("--join=", 0) == 0) {
      bool ok = Join(argument.substr(7));
      joined = joined && ok;
      in_group = in_group || (ok && argument.find("cgroup.procs") != std::string::npos);
    } else if (argument.rfind("--output=", 0) == 0) {
      if (!Redirect(argument.c_str() + 9)) {
        Complain("cannot write", argument.c_str() + 9);
        return 127;
      }
    } else if (argument.rfind("--chdir=", 0) == 0) {
      if (chdir(argument.c_str() + 8) != 0) {
        Complain("cannot enter", argument.c_str() + 8);
        return 127;
      }
    } else if (argument == "--keep-socket") {
      keep_socket = true;
    } else {
      fprintf(stderr, "tandem-launch: unknown argument '%s'; it is for tandemd, not for people\n", argv[i]);
      return 127;
    }
  }
  if (i + 1 >= argc) {
    fprintf(stderr, "tandem-launch: no program after '--'\n");
    return 127;
  }
  sched_param parameters = {};
  sched_setscheduler(0, SCHED_OTHER, &parameters);
  // Inside a group of the lowest weight nice changes nothing but the share among siblings; outside it is all there is.
  if (!in_group || !joined) setpriority(PRIO_PROCESS, 0, 19);
  DropRights();
  int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null_fd >= 0) dup2(null_fd, 0);
  if (keep_socket) fcntl(3, F_SETFD, 0);
  syscall(SYS_close_range, keep_socket ? 4u : 3u, ~0u, 0u);
  execv(argv[i + 1], argv + i + 1);
  Complain("cannot run", argv[i + 1]);
  return 127;
}
