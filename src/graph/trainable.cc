// Which initialisers training may change.
#include "graph/rep.h"
#include "graph/roles.h"

namespace tandem::graph {

std::vector<std::string> Graph::TrainableInitializers() const {
  const Roles roles(rep_->model.graph());
  std::vector<std::string> names;
  for (const Initializer& initializer : rep_->initializers) {
    if (IsFloat(initializer.dtype) && roles.OfValue(initializer.name) == Role::kWeight) {
      names.push_back(initializer.name);
    }
  }
  return names;
}

std::vector<std::string> Graph::StatisticInitializers() const {
  const Roles roles(rep_->model.graph());
  std::vector<std::string> names;
  for (const Initializer& initializer : rep_->initializers) {
    if (IsFloat(initializer.dtype) && roles.OfValue(initializer.name) == Role::kStatistic) {
      names.push_back(initializer.name);
    }
  }
  return names;
}

}  // namespace tandem::graph
