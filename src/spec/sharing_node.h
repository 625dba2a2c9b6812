#pragma once
// The sharing document as a tree: for a document of its own (ParseSharing) and for `sharing` in tandem.yaml.
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "spec/fields.h"
#include "spec/sharing_spec.h"

namespace tandem::spec {

const std::vector<std::string>& PolicyNames();

// `path` begins the keys in messages: "", or "sharing".
absl::StatusOr<SharingSpec> ReadSharing(const Node& root, const std::string& path);

// What one side may say.
const FieldTable<SideSpec>& SideFields();

// What a ratio is in words: "70% every 10s", "none".
std::string RatioText(const SplitSpec& split);

// "line 3" of a place in a file, else the place.
std::string LineOf(std::string_view where);

// The rules over several keys of `root`, which `sharing` was read from.
absl::Status CheckSharing(const Node& root, const std::string& path, const SharingSpec& sharing);

}  // namespace tandem::spec
