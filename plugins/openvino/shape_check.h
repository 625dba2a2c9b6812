#pragma once
// Sizes of a request that the signature leaves free, but the model does not take. OpenVINO's CPU kernels check most of
// them; where a free size meets a constant matrix they do not, and read past the input. So models in which that may be
// keep their graph, and each new combination of sizes goes through its shape inference once.
#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "openvino/core/model.hpp"
#include "tandem/engine.h"

namespace tandem_openvino {

// Thread-safe.
class ShapeCheck {
 public:
  // Writes what Read needs into the folder, unless only the first dimensions are free and any size of them will do.
  static void Write(const std::shared_ptr<const ov::Model>& model, const std::filesystem::path& folder);
  // nullptr where none is needed.
  static std::unique_ptr<ShapeCheck> Read(const std::filesystem::path& folder);

  // Throws std::invalid_argument. `shapes` is one of each input.
  void Check(const std::vector<ov::Shape>& shapes);

 private:
  explicit ShapeCheck(std::shared_ptr<ov::Model> model) : model_(std::move(model)) {}

  std::mutex mutex_;
  std::shared_ptr<ov::Model> model_;         // guarded by mutex_
  std::set<std::vector<ov::Shape>> passed_;  // guarded by mutex_
};

}  // namespace tandem_openvino
