#pragma once
// A job spec may name a local ONNX file; the server needs its absolute path.
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::cli {

// `sets` (key.path=value) with model.onnx made absolute: the spec's relative to `folder` (its own) or else to the
// working folder, a set's relative to the working folder. Paths that name no file are left alone: the server reports
// them.
std::vector<std::string> LocalPathOverrides(std::string_view spec, const std::filesystem::path& folder,
                                            const std::vector<std::string>& sets);

}  // namespace tandem::cli
