#pragma once
// The commands on ONNX files that need no engine and no daemon.
#include <string>
#include <vector>

namespace tandem {

// Runs one of
//   model new --arch A --input 1x28x28 --classes 10 [--seed S] [--hidden 256,128] --out FILE
//   model show FILE [--json]
//   model join FILE --out FILE
//   model check-graph FILE [--json]
// `args` begins with "model" or after it. Returns the exit code: 0 done, 1 the file is bad or the operation failed, 2
// usage. Results go to stdout, errors to stderr. Throws nothing.
int RunGraphCommand(const std::vector<std::string>& args);

}  // namespace tandem
