#pragma once
// One job of the daemon: the conversation of proto/trainer.proto over one socket.
#include <functional>

#include "base/fd.h"

namespace tandem::training {

// Reads the Assignment from `socket`, does it, answers. Obeys Control messages; SIGTERM, SIGINT and a socket that
// closes mean: write a checkpoint and leave. Returns the process's exit code: 0 after Finished, Stopped or a closed
// socket, 1 after Failed. Call before any other thread exists (signals are blocked for all of them).
//
// `leave`: called with that code as soon as a checkpoint was asked for and is durable and Stopped was said, while
// threads may still compute what nobody wants. A process of its own gives _exit here; without it they are waited for.
int RunJob(UniqueFd socket, std::function<void(int)> leave = {});

}  // namespace tandem::training
