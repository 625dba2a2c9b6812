#include "engine/executable.h"

#include <system_error>

namespace tandem::engine {

std::filesystem::path ExecutableFolder() {
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "." : self.parent_path();
}

}  // namespace tandem::engine
