#pragma once
// What all children have in common that are started for one piece of work: how they are asked, and what their end
// means. Inside this module, and for tandem-engine-host, which writes what is read here.
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "google/protobuf/message.h"

namespace tandem::engine {

// "tandem-engine-host COMMAND --engine E", then the options.
std::vector<std::string> HostArguments(std::string_view command, std::string_view engine, const Options& options);
// OK for exit code 0. `what` begins the message: "preparing 'x.onnx' for engine 'openvino'"; `hint` ends the one about
// a crash.
absl::Status CheckChild(const ChildResult& child, std::string_view what, std::string_view hint, double timeout_s);

// A message as a JSON file. ReadJson leaves out what it does not know; `message` must be empty.
absl::Status WriteJson(const std::filesystem::path& file, const google::protobuf::Message& message);
absl::Status ReadJson(const std::filesystem::path& file, google::protobuf::Message* message);

}  // namespace tandem::engine
