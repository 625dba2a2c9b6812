#pragma once
// The server's state as text for people.
#include <string>

#include "api.pb.h"
#include "tandem/terminal.h"

namespace tandem::cli {

Table ServedTable(const wire::Status& status);
std::string StatusText(const wire::Status& status, double now_unix_ms, const Style& style);

}  // namespace tandem::cli
