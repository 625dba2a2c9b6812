// The starting files of `tandem model new`.
#include <algorithm>

#include "base/status.h"
#include "base/text.h"
#include "graph/graph.h"
#include "graph/model_builder.h"
#include "graph/names.h"

namespace tandem::graph {
namespace {

using Build = Value (*)(ModelBuilder&, const Architecture&, const Value& input);

struct Row {
  std::string_view name;
  int64_t smallest_side;  // of the image
  Build build;
};

Value Mlp(ModelBuilder& model, const Architecture& architecture, const Value& input) {
  Value x = input.shape.size() == 1 ? input : model.Flatten("flatten", input);
  int number = 1;
  for (int64_t features : architecture.hidden) {
    const std::string index = StrCat(number++);
    x = model.Relu("relu" + index, model.Linear("fc" + index, x, features, true));
  }
  return model.Linear(StrCat("fc", number), x, architecture.classes, false);
}

// LeCun et al. 1998 with rectifiers and maximum pooling.
Value LeNet(ModelBuilder& model, const Architecture& architecture, const Value& input) {
  Value x = model.Relu("relu1", model.Convolve("conv1", input, 6, 5, 1, 2, true));
  x = model.MaxPool("pool1", x, 2, 2, 0);
  x = model.Relu("relu2", model.Convolve("conv2", x, 16, 5, 1, 0, true));
  x = model.Flatten("flatten", model.MaxPool("pool2", x, 2, 2, 0));
  x = model.Relu("relu3", model.Linear("fc1", x, 120, true));
  x = model.Relu("relu4", model.Linear("fc2", x, 84, true));
  return model.Linear("fc3", x, architecture.classes, false);
}

// The basic block of He et al. 2015; where the shape changes, the short cut is a 1x1 convolution.
Value BasicBlock(ModelBuilder& model, const std::string& name, const Value& x, int64_t channels, int64_t stride) {
  Value y = model.Convolve(name + ".conv1", x, channels, 3, stride, 1, false);
  y = model.Relu(name + ".relu1", model.Normalise(name + ".bn1", y));
  y = model.Normalise(name + ".bn2", model.Convolve(name + ".conv2", y, channels, 3, 1, 1, false));
  Value shortcut = x;
  if (stride != 1 || x.shape[0] != channels) {
    shortcut = model.Convolve(name + ".shortcut.conv", x, channels, 1, stride, 0, false);
    shortcut = model.Normalise(name + ".shortcut.bn", shortcut);
  }
  return model.Relu(name + ".relu2", model.Add(name + ".add", y, shortcut));
}

Value ResNetBody(ModelBuilder& model, Value x, const std::vector<int64_t>& widths, int blocks, int64_t classes) {
  for (size_t stage = 0; stage < widths.size(); ++stage) {
    for (int block = 0; block < blocks; ++block) {
      const int64_t stride = stage > 0 && block == 0 ? 2 : 1;
      x = BasicBlock(model, StrCat("stage", stage + 1, ".block", block + 1), x, widths[stage], stride);
    }
  }
  x = model.Flatten("flatten", model.GlobalAveragePool("pool", x));
  return model.Linear("fc", x, classes, false);
}

Value SmallStem(ModelBuilder& model, const Value& x, int64_t channels) {
  const Value y = model.Normalise("stem.bn", model.Convolve("stem.conv", x, channels, 3, 1, 1, false));
  return model.Relu("stem.relu", y);
}

template <int kBlocks>
Value CifarResNet(ModelBuilder& model, const Architecture& architecture, const Value& input) {
  return ResNetBody(model, SmallStem(model, input, 16), {16, 32, 64}, kBlocks, architecture.classes);
}

Value ResNet18(ModelBuilder& model, const Architecture& architecture, const Value& input) {
  constexpr int64_t kLargeImage = 64;
  Value x;
  if (std::min(input.shape[1], input.shape[2]) < kLargeImage) {
    x = SmallStem(model, input, 64);
  } else {
    x = model.Normalise("stem.bn", model.Convolve("stem.conv", input, 64, 7, 2, 3, false));
    x = model.MaxPool("stem.pool", model.Relu("stem.relu", x), 3, 2, 1);
  }
  return ResNetBody(model, x, {64, 128, 256, 512}, 2, architecture.classes);
}

constexpr Row kRows[] = {
    {"mlp", 1, Mlp},           {"lenet", 12, LeNet}, {"resnet8", 8, CifarResNet<1>}, {"resnet20", 8, CifarResNet<3>},
    {"resnet18", 8, ResNet18},
};

absl::Status CheckInput(const Architecture& architecture, const Row& row) {
  const Shape& input = architecture.input;
  const bool features = row.name == "mlp" && input.size() == 1;
  if (!features && input.size() != 3) {
    return InvalidArgument("architecture ", row.name, ": input ", ToString(input),
                           row.name == "mlp" ? " must be channels, height, width, or a number of features"
                                             : " must be channels, height, width");
  }
  constexpr int64_t kLargestSide = 1 << 20;
  for (int64_t dim : input) {
    if (dim < 1 || dim > kLargestSide) {
      return InvalidArgument("architecture ", row.name, ": each dimension of input ", ToString(input),
                             " must be between 1 and ", kLargestSide);
    }
  }
  if (!features && std::min(input[1], input[2]) < row.smallest_side) {
    return InvalidArgument("architecture ", row.name, " needs images of ", row.smallest_side, "x", row.smallest_side,
                           " or more; input ", ToString(input), " is smaller");
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const Architecture& architecture) {
  constexpr int64_t kMostFeatures = 1'000'000;
  if (architecture.classes < 2 || architecture.classes > kMostFeatures) {
    return InvalidArgument("classes is ", architecture.classes, ", must be between 2 and ", kMostFeatures);
  }
  if (architecture.name != "mlp") return absl::OkStatus();
  constexpr size_t kMostLayers = 100;
  if (architecture.hidden.size() > kMostLayers) {
    return InvalidArgument("hidden has ", architecture.hidden.size(), " layers, the limit is ", kMostLayers);
  }
  for (int64_t features : architecture.hidden) {
    if (features < 1 || features > kMostFeatures) {
      return InvalidArgument("hidden holds ", features, ", must be between 1 and ", kMostFeatures);
    }
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<std::string>& ArchitectureNames() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> all;
    for (const Row& row : kRows) all.emplace_back(row.name);
    return all;
  }();
  return kNames;
}

absl::StatusOr<std::string> MakeModel(const Architecture& architecture) {
  for (const Row& row : kRows) {
    if (row.name != architecture.name) continue;
    TANDEM_RETURN_IF_ERROR(CheckInput(architecture, row));
    TANDEM_RETURN_IF_ERROR(CheckSizes(architecture));
    ModelBuilder model(row.name, architecture.seed);
    const Value logits = row.build(model, architecture, model.Input(architecture.input));
    return model.Finish(logits);
  }
  std::string known;
  for (const std::string& name : ArchitectureNames()) StrAppend(&known, known.empty() ? "" : ", ", name);
  return InvalidArgument("there is no architecture ", Quote(architecture.name), "; there are ", known,
                         DidYouMean(architecture.name, ArchitectureNames()));
}

}  // namespace tandem::graph
