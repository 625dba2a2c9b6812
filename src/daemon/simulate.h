#pragma once
// `tandem simulate LOAD.csv`: the real policies on recorded load, without a server.
#include <string>
#include <vector>

namespace tandem::daemon {

// Arguments behind "simulate"; prints to stdout, errors and warnings to stderr; gives the exit code (0, 1, 2 = wrong
// arguments).
int RunSimulation(const std::vector<std::string>& args);

}  // namespace tandem::daemon
