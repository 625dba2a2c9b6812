#pragma once
// Sizes of a request that the signature leaves free, but the model does not take. OpenVINO's CPU kernels check most of
// them; where a free size meets a constant matrix they do not, and read past the input. So models in which that may be
// keep their graph, and each new combination of sizes goes through its shape inference once in each instance.
#include <filesystem>
#include <memory>
#include <set>
#include <vector>

#include "openvino/core/model.hpp"
#include "tandem/engine.h"

namespace tandem_openvino {

// Thread-compatible, and without a lock: each instance has one of its own. With one for all, a thread that answers
// requests would wait for shape inference of another's, which may be of the background class and without a CPU.
class ShapeCheck {
 public:
  // Writes what Read needs into the folder, unless only the first dimensions are free and any size of them will do.
  static void Write(const std::shared_ptr<const ov::Model>& model, const std::filesystem::path& folder);
  // nullptr where none is needed.
  static std::unique_ptr<ShapeCheck> Read(const std::filesystem::path& folder);
  // Another one that nothing has passed yet. The constants are shared, which nobody changes. Not while Check runs.
  std::unique_ptr<ShapeCheck> Clone() const;

  // Throws std::invalid_argument. `shapes` is one of each input.
  void Check(const std::vector<ov::Shape>& shapes);

 private:
  explicit ShapeCheck(std::shared_ptr<ov::Model> model) : model_(std::move(model)) {}

  const std::shared_ptr<ov::Model> model_;
  std::set<std::vector<ov::Shape>> passed_;
};

}  // namespace tandem_openvino
