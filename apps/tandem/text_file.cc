#include "tandem/text_file.h"

#include <iostream>
#include <iterator>

#include "base/files.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem::cli {

absl::StatusOr<TextFile> ReadTextFile(const std::string& path) {
  TextFile file{.text = {}, .source = path};
  if (path == "-") {
    file.text.assign(std::istreambuf_iterator<char>(std::cin), {});
    file.source = "stdin";
  } else {
    TANDEM_ASSIGN_OR_RETURN(file.text, ReadFile(path, 1 << 20));
  }
  if (!IsUtf8(file.text)) return InvalidArgument("'", file.source, "' is not UTF-8 text");
  return file;
}

}  // namespace tandem::cli
