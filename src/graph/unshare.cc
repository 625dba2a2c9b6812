// Exporters merge equal tensors: the scales of two BatchNormalizations that both are all ones become one initialiser,
// read directly or behind Identity. Training needs one each.
#include <algorithm>
#include <climits>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "base/status.h"
#include "base/text.h"
#include "graph/names.h"
#include "graph/rep.h"
#include "graph/roles.h"

namespace tandem::graph {
namespace {

struct Use {
  int node;
  int slot;
};

// The uses that shall read one initialiser together.
struct Owner {
  std::vector<Use> uses;
  std::vector<std::string> aliases;  // the names, in order, under which they read it now
  bool has_root = false;             // the initialiser's own name belongs here
};

class Unsharer {
 public:
  Unsharer(const onnx::ModelProto& model, const std::vector<std::vector<std::string>>& tie)
      : model_(model), roles_(model.graph()), tie_(tie) {
    const onnx::GraphProto& graph = model_.graph();
    for (int i = 0; i < graph.node_size(); ++i) {
      const onnx::NodeProto& node = graph.node(i);
      for (int slot = 0; slot < node.input_size(); ++slot) uses_[node.input(slot)].push_back({i, slot});
      for (const std::string& output : node.output()) names_.insert(output);
    }
    for (const auto& tensor : graph.initializer()) names_.insert(tensor.name());
    for (const auto& input : graph.input()) names_.insert(input.name());
    for (const auto& output : graph.output()) outputs_.insert(output.name());
    for (size_t group = 0; group < tie_.size(); ++group) {
      for (const std::string& name : tie_[group]) group_of_.emplace(name, group);
    }
  }

  absl::Status CheckTies() const {
    std::vector<std::string> known;
    for (const auto& tensor : model_.graph().initializer()) known.push_back(tensor.name());
    for (const auto& node : model_.graph().node()) {
      if (IsIdentity(node)) known.push_back(node.output(0));
    }
    const std::unordered_set<std::string> set(known.begin(), known.end());
    std::unordered_map<std::string, size_t> seen;
    for (size_t group = 0; group < tie_.size(); ++group) {
      for (const std::string& name : tie_[group]) {
        if (!set.contains(name)) {
          return InvalidArgument("tie names ", Quote(name), ", which is no initialiser", DidYouMean(name, known));
        }
        if (seen.emplace(name, group).first->second != group) {
          return InvalidArgument("tie names ", Quote(name), " in two groups");
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status Run() {
    bytes_ = static_cast<int64_t>(model_.ByteSizeLong());
    for (int i = 0, n = model_.graph().initializer_size(); i < n; ++i) {
      if (IsFloat(static_cast<DType>(model_.graph().initializer(i).data_type()))) TANDEM_RETURN_IF_ERROR(Split(i));
    }
    if (changed_) RemoveNodes();
    return absl::OkStatus();
  }

  bool changed() const { return changed_; }

  const onnx::ModelProto& model() const { return model_; }

 private:
  static bool IsIdentity(const onnx::NodeProto& node) {
    return node.op_type() == "Identity" && node.input_size() == 1 && node.output_size() == 1;
  }

  // The initialiser's own name and those of Identity nodes behind it, each after what it is made of.
  std::vector<std::string> AliasesOf(const std::string& root) const {
    std::vector<std::string> aliases = {root};
    for (size_t i = 0; i < aliases.size(); ++i) {
      const auto uses = uses_.find(aliases[i]);
      if (uses == uses_.end()) continue;
      for (const Use& use : uses->second) {
        if (IsIdentity(model_.graph().node(use.node))) aliases.push_back(model_.graph().node(use.node).output(0));
      }
    }
    return aliases;
  }

  // Who reads the initialiser, apart from nodes that only read its shape. Sets `learned` if training changes it.
  std::vector<Owner> OwnersOf(const std::vector<std::string>& aliases, bool* learned) const {
    std::vector<Owner> owners;
    std::map<size_t, size_t> owner_of_group;
    for (const std::string& alias : aliases) {
      const auto group = group_of_.find(alias);
      const auto uses = uses_.find(alias);
      if (uses == uses_.end()) continue;
      for (const Use& use : uses->second) {
        const Role role = roles_.OfInput(use.node, use.slot);
        if (IsIdentity(model_.graph().node(use.node)) || role == Role::kShape) continue;
        *learned = *learned || role >= Role::kWeight;
        size_t owner = owners.size();
        if (group != group_of_.end()) owner = owner_of_group.emplace(group->second, owner).first->second;
        if (owner == owners.size()) owners.emplace_back();
        owners[owner].uses.push_back(use);
        if (owners[owner].aliases.empty() || owners[owner].aliases.back() != alias) {
          owners[owner].aliases.push_back(alias);
        }
        const auto root_group = group_of_.find(aliases[0]);
        const bool with_root =
            group != group_of_.end() && root_group != group_of_.end() && group->second == root_group->second;
        owners[owner].has_root = owners[owner].has_root || alias == aliases[0] || with_root;
      }
    }
    return owners;
  }

  // Gives all owners but one a copy.
  absl::Status Split(int initializer) {
    const std::string root = model_.graph().initializer(initializer).name();
    const std::vector<std::string> aliases = AliasesOf(root);
    bool learned = false;
    std::vector<Owner> owners = OwnersOf(aliases, &learned);
    if (!learned || owners.size() < 2) return absl::OkStatus();
    TANDEM_RETURN_IF_ERROR(Reserve(model_.graph().initializer(initializer), owners.size() - 1));
    size_t keeper = 0;
    while (keeper < owners.size() && !owners[keeper].has_root) ++keeper;
    if (keeper == owners.size()) keeper = 0;

    // What stays with the initialiser reads it under its own name, so that the Identity nodes can give theirs away.
    Rename(owners[keeper].uses, root);
    std::unordered_set<std::string> free_names;
    for (size_t i = 1; i < aliases.size(); ++i) {
      if (RemoveIdentity(aliases[i], root)) free_names.insert(aliases[i]);
    }
    for (size_t i = 0; i < owners.size(); ++i) {
      if (i == keeper) continue;
      const std::string& wanted = owners[i].aliases[0];
      const std::string name = free_names.erase(wanted) > 0 ? wanted : NewName(wanted);
      AddCopy(initializer, name);
      Rename(owners[i].uses, name);
    }
    changed_ = true;
    return absl::OkStatus();
  }

  // Checks that so many copies leave the file below 2 GB, before memory is taken for them.
  absl::Status Reserve(const onnx::TensorProto& tensor, size_t copies) {
    const auto each = static_cast<int64_t>(tensor.ByteSizeLong());
    if (static_cast<int64_t>(copies) > (INT_MAX - bytes_) / std::max<int64_t>(each, 1)) {
      return ResourceExhausted(
          "giving each of the ", copies + 1, " uses of initialiser ", Quote(tensor.name()),
          " one of its own makes the model larger than 2 GB; name it in `tie` if it is one weight");
    }
    bytes_ += static_cast<int64_t>(copies) * each;
    return absl::OkStatus();
  }

  void Rename(const std::vector<Use>& uses, const std::string& name) {
    for (const Use& use : uses) model_.mutable_graph()->mutable_node(use.node)->set_input(use.slot, name);
  }

  // Takes the Identity node that makes `alias` away: who only reads the shape reads the root's. Not if `alias` is an
  // output of the graph: then it copies from the root.
  bool RemoveIdentity(const std::string& alias, const std::string& root) {
    for (const Use& use : uses_[alias]) {
      if (roles_.OfInput(use.node, use.slot) == Role::kShape) Rename({use}, root);
    }
    const int maker = MakerOf(alias);
    model_.mutable_graph()->mutable_node(maker)->set_input(0, root);
    if (outputs_.contains(alias)) return false;
    removed_.insert(maker);
    return true;
  }

  int MakerOf(const std::string& alias) {
    if (makers_.empty()) {
      for (int i = 0; i < model_.graph().node_size(); ++i) {
        for (const std::string& output : model_.graph().node(i).output()) makers_[output] = i;
      }
    }
    return makers_.at(alias);
  }

  std::string NewName(const std::string& wanted) {
    for (int number = next_number_[wanted] + 1;; ++number) {
      std::string name = StrCat(wanted, ".", number);
      if (!names_.insert(name).second) continue;
      next_number_[wanted] = number;
      return name;
    }
  }

  void AddCopy(int initializer, const std::string& name) {
    onnx::GraphProto* graph = model_.mutable_graph();
    const onnx::TensorProto& original = graph->initializer(initializer);
    onnx::TensorProto* copy = graph->add_initializer();
    *copy = original;
    copy->set_name(name);
    constexpr int64_t kInitializersAreInputsBefore = 4;
    if (model_.ir_version() >= kInitializersAreInputsBefore) return;
    onnx::ValueInfoProto* input = graph->add_input();
    input->set_name(name);
    onnx::TypeProto::Tensor* type = input->mutable_type()->mutable_tensor_type();
    type->set_elem_type(original.data_type());
    type->mutable_shape();
    for (int64_t dim : original.dims()) type->mutable_shape()->add_dim()->set_dim_value(dim);
  }

  void RemoveNodes() {
    google::protobuf::RepeatedPtrField<onnx::NodeProto> kept;
    for (int i = 0; i < model_.graph().node_size(); ++i) {
      if (!removed_.contains(i)) kept.Add()->Swap(model_.mutable_graph()->mutable_node(i));
    }
    model_.mutable_graph()->mutable_node()->Swap(&kept);
  }

  onnx::ModelProto model_;
  const Roles roles_;  // views into names of the model given, not of the copy
  const std::vector<std::vector<std::string>>& tie_;
  std::unordered_map<std::string, std::vector<Use>> uses_;
  std::unordered_map<std::string, int> makers_;
  std::unordered_set<std::string> names_, outputs_;
  std::unordered_map<std::string, size_t> group_of_;
  std::unordered_map<std::string, int> next_number_;
  std::unordered_set<int> removed_;
  int64_t bytes_ = 0;  // of the file to be
  bool changed_ = false;
};

}  // namespace

absl::StatusOr<Graph> Graph::Unshared(const std::vector<std::vector<std::string>>& tie) const {
  Unsharer unsharer(rep_->model, tie);
  absl::Status status = unsharer.CheckTies();
  if (status.ok()) status = unsharer.Run();
  if (!status.ok()) return Annotate(status, StrCat("model ", Quote(rep_->source)));
  if (!unsharer.changed()) return Parse(rep_->bytes, rep_->source);
  std::string bytes;
  if (!unsharer.model().SerializeToString(&bytes)) {
    return Internal("model ", Quote(rep_->source), " cannot be written with unshared initialisers");
  }
  return Parse(std::move(bytes), rep_->source);
}

}  // namespace tandem::graph
