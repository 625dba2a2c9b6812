#pragma once
// Where this program lies: helpers and plug-ins lie beside it. Internal to this module.
#include <filesystem>

namespace tandem::engine {

// "." if the system does not tell.
std::filesystem::path ExecutableFolder();

}  // namespace tandem::engine
