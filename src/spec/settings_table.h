#pragma once
// The table of settings: what settings.cc reads and documents.
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/document.h"
#include "spec/settings.h"

namespace tandem::spec {

struct Setting {
  std::string_view key;      // in tandem.yaml and --set: "http.io_threads"
  std::string_view flag;     // "--http"; empty = only by --set
  std::string described;     // the type with its limits
  std::string default_text;  // empty = none
  std::string_view help;
  bool is_switch = false;  // a flag without a value means true
  std::function<absl::Status(const Node&, Settings&)> read;
};

const std::vector<Setting>& SettingsTable();

}  // namespace tandem::spec
