#include "interpreter/operators.h"

#include <algorithm>
#include <map>

namespace tandem::interpreter {
namespace {

const std::map<std::string_view, const Operator*>& Table() {
  static const auto* const table = [] {
    auto* made = new std::map<std::string_view, const Operator*>;
    for (const auto family : {ConvolutionOperators(), PoolingOperators(), NormalisationOperators(),
                              ActivationOperators(), ArithmeticOperators(), ReductionOperators(), MatrixOperators(),
                              ShapeOperators(), SelectionOperators(), ConstantOperators()}) {
      for (const Operator& op : family) made->emplace(op.name, &op);
    }
    return made;
  }();
  return *table;
}

}  // namespace

const Operator* FindOperator(std::string_view name) {
  const auto it = Table().find(name);
  return it == Table().end() ? nullptr : it->second;
}

std::vector<std::string> SupportedOperators() {
  std::vector<std::string> names;
  for (const auto& [name, op] : Table()) names.emplace_back(name);
  return names;
}

}  // namespace tandem::interpreter
