#pragma once
#include "tandem/command.h"
#include "tandem/session.h"

namespace tandem::cli {

// models configure, canary, shadow, promote, approve, reject.
void AddServingCommands(Command& models, Session& session);

}  // namespace tandem::cli
