#pragma once

namespace tandem {

// The version of every program of this build.
inline constexpr char kVersion[] = "0.1.0";

}  // namespace tandem
