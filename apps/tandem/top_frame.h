#pragma once
#include <string>

#include "api.pb.h"
#include "tandem/terminal.h"

namespace tandem::cli {

// One picture of `tandem top`, at most `rows` lines of `columns`.
std::string TopFrame(const wire::Status& status, int columns, int rows, const Style& style);

// The first `rows` lines, each cut to `columns`.
std::string CutToScreen(const std::string& text, int columns, int rows);

}  // namespace tandem::cli
