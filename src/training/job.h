#pragma once
// One job of the daemon: the conversation of proto/trainer.proto over one socket.
#include "base/fd.h"

namespace tandem::training {

// Reads the Assignment from `socket`, does it, answers. Obeys Control messages; SIGTERM, SIGINT and a socket that
// closes mean: write a checkpoint and leave. Returns the process's exit code: 0 after Finished, Stopped or a closed
// socket, 1 after Failed. Call before any other thread exists (signals are blocked for all of them).
int RunJob(UniqueFd socket);

}  // namespace tandem::training
