#pragma once
// What a prepared folder says about a model: its device, and one line per input and output.
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include "tandem/engine.h"

namespace tandem_openvino {

struct Signature {
  std::string device = "CPU";  // what the blob was compiled for
  std::vector<tandem_signature> inputs, outputs;
  // Adds a tensor and keeps its name. Pointers into `names` stay valid when the object moves.
  void Add(bool is_output, const std::string& name, tandem_signature tensor);

 private:
  std::deque<std::string> names_;
};

// Both throw std::runtime_error, naming the file.
void WriteSignature(const std::filesystem::path& file, const Signature& signature);
Signature ReadSignature(const std::filesystem::path& file);

}  // namespace tandem_openvino
