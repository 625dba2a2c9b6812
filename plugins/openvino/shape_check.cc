#include "shape_check.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>

#include "openvino/core/graph_util.hpp"
#include "settings.h"

namespace tandem_openvino {
namespace {

constexpr const char* kGraph = "shapes.xml";
constexpr const char* kWeights = "shapes.bin";

using Shapes = std::map<size_t, ov::PartialShape>;

// The model's shapes as of its file, with `rows` for each first dimension that is free.
Shapes WithRows(const ov::Model& model, int64_t rows) {
  Shapes shapes;
  for (size_t i = 0; i < model.inputs().size(); ++i) {
    ov::PartialShape shape = model.input(i).get_partial_shape();
    if (shape.size() > 0 && shape[0].is_dynamic()) shape[0] = rows;
    shapes.emplace(i, shape);
  }
  return shapes;
}

bool HasFreeInside(const ov::Model& model) {
  for (const auto& input : model.inputs()) {
    const ov::PartialShape& shape = input.get_partial_shape();
    if (shape.size() > 0 && std::any_of(shape.begin() + 1, shape.end(), [](const auto& d) { return d.is_dynamic(); })) {
      return true;
    }
  }
  return false;
}

// Inputs whose first dimensions are free may differ in them.
bool IsNeeded(const std::shared_ptr<const ov::Model>& model) {
  const auto is_free = [](const auto& input) {
    const ov::PartialShape& shape = input.get_partial_shape();
    return shape.size() > 0 && shape[0].is_dynamic();
  };
  const std::vector<ov::Output<const ov::Node>> inputs = model->inputs();
  const auto free = std::count_if(inputs.begin(), inputs.end(), is_free);
  if (free > 1 || HasFreeInside(*model)) return true;
  if (free == 0) return false;
  const std::shared_ptr<ov::Model> copy = model->clone();
  const Shapes original = WithRows(*model, -1);
  try {
    for (const int64_t rows : {1, 2, 3, 64}) {
      copy->reshape(WithRows(*model, rows));
      copy->reshape(original);
    }
  } catch (const ov::Exception&) {
    return true;
  }
  return false;
}

std::string Text(const std::vector<ov::Shape>& shapes) {
  std::string text;
  for (const ov::Shape& shape : shapes) text += (text.empty() ? "" : ", ") + shape.to_string();
  return text;
}

}  // namespace

void ShapeCheck::Write(const std::shared_ptr<const ov::Model>& model, const std::filesystem::path& folder) {
  if (IsNeeded(model)) ov::serialize(model, (folder / kGraph).string(), (folder / kWeights).string());
}

std::unique_ptr<ShapeCheck> ShapeCheck::Read(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder / kGraph)) return nullptr;
  return std::unique_ptr<ShapeCheck>(
      new ShapeCheck(SharedCore().read_model((folder / kGraph).string(), (folder / kWeights).string())));
}

std::unique_ptr<ShapeCheck> ShapeCheck::Clone() const {
  return std::unique_ptr<ShapeCheck>(new ShapeCheck(model_->clone()));
}

void ShapeCheck::Check(const std::vector<ov::Shape>& shapes) {
  constexpr size_t kMostKept = 256;
  if (passed_.contains(shapes)) return;
  Shapes wanted;
  for (size_t i = 0; i < shapes.size(); ++i) wanted.emplace(i, shapes[i]);
  try {
    model_->reshape(wanted);
  } catch (const ov::Exception&) {
    throw std::invalid_argument("the model does not take inputs of these sizes: " + Text(shapes));
  }
  if (passed_.size() == kMostKept) passed_.clear();
  passed_.insert(shapes);
}

}  // namespace tandem_openvino
