// A folder with pairs of .npy files, samples and labels.
#include <bit>
#include <cmath>
#include <cstring>

#include "base/files.h"
#include "base/status.h"
#include "data/arrays.h"
#include "data/formats.h"

namespace tandem::data {
namespace fs = std::filesystem;

namespace {

struct PairNames {
  Split split;
  std::string_view samples, labels;
};
constexpr PairNames kPairs[] = {
    {Split::kTrain, "x_train.npy", "y_train.npy"},
    {Split::kTrain, "train_images.npy", "train_labels.npy"},
    {Split::kTrain, "x.npy", "y.npy"},
    {Split::kTrain, "images.npy", "labels.npy"},
    {Split::kVal, "x_val.npy", "y_val.npy"},
    {Split::kVal, "val_images.npy", "val_labels.npy"},
    {Split::kTest, "x_test.npy", "y_test.npy"},
    {Split::kTest, "test_images.npy", "test_labels.npy"},
};

bool Matches(const fs::path& path) {
  for (const PairNames& pair : kPairs) {
    if (pair.split == Split::kTrain && !FirstFile(path, {std::string(pair.samples)}).empty()) return true;
  }
  return false;
}

absl::StatusOr<std::vector<SplitFile>> List(const fs::path& path) {
  std::vector<SplitFile> files;
  for (const PairNames& pair : kPairs) {
    if (!FilesOf(files, pair.split).empty() || FirstFile(path, {std::string(pair.samples)}).empty()) continue;
    if (FirstFile(path, {std::string(pair.labels)}).empty()) {
      return NotFound("'", path.string(), "' has ", pair.samples, " but not the labels ", pair.labels);
    }
    files.push_back({pair.split, std::string(pair.samples)});
    files.push_back({pair.split, std::string(pair.labels)});
  }
  if (FilesOf(files, Split::kTrain).empty()) {
    return NotFound("'", path.string(), "' has no x_train.npy and y_train.npy (or x.npy and y.npy, images.npy and ",
                    "labels.npy); give the folder that holds them");
  }
  return files;
}

absl::StatusOr<Tensor> ReadArray(const fs::path& path) {
  TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadDataFile(path));
  absl::StatusOr<Tensor> tensor = ReadNpy(bytes);
  if (!tensor.ok()) return Annotate(tensor.status(), StrCat("'", path.string(), "'"));
  return tensor;
}

float HalfToFloat(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  float value = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                 : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return (half & 0x8000) != 0 ? -value : value;
}

// Calls visit(i, element) for each element, in its own type (float16 as float).
template <typename Visit>
bool ForEach(const Tensor& tensor, Visit visit) {
  auto run = [&](auto type, auto convert) {
    using T = decltype(type);
    const T* data = tensor.As<T>();
    const size_t count = tensor.buffer.size() / sizeof(T);
    for (size_t i = 0; i < count; ++i) visit(i, convert(data[i]));
    return true;
  };
  auto same = [](auto value) { return value; };
  switch (tensor.dtype) {
    case DType::kFloat32:
      return run(float{}, same);
    case DType::kFloat64:
      return run(double{}, same);
    case DType::kFloat16:
      return run(uint16_t{}, HalfToFloat);
    case DType::kBool:
    case DType::kUint8:
      return run(uint8_t{}, same);
    case DType::kInt8:
      return run(int8_t{}, same);
    case DType::kUint16:
      return run(uint16_t{}, same);
    case DType::kInt16:
      return run(int16_t{}, same);
    case DType::kInt32:
      return run(int32_t{}, same);
    case DType::kUint32:
      return run(uint32_t{}, same);
    case DType::kInt64:
      return run(int64_t{}, same);
    case DType::kUint64:
      return run(uint64_t{}, same);
    default:
      return false;
  }
}

absl::StatusOr<std::vector<int32_t>> ReadLabels(const fs::path& path, int64_t classes) {
  TANDEM_ASSIGN_OR_RETURN(Tensor tensor, ReadArray(path));
  const bool column = tensor.shape.size() == 2 && tensor.shape[1] == 1;
  if (tensor.shape.size() != 1 && !column) {
    return InvalidArgument("'", path.string(), "' has shape ", ToString(tensor.shape),
                           "; labels are N integers (class numbers, not one-hot)");
  }
  if (tensor.dtype == DType::kFloat16 || tensor.dtype == DType::kFloat32 || tensor.dtype == DType::kFloat64) {
    return InvalidArgument("'", path.string(), "' holds floats; labels are integers");
  }
  std::vector<int32_t> labels(tensor.shape[0]);
  const std::string name = path.string();
  absl::Status status;
  ForEach(tensor, [&](size_t i, auto value) {
    if (!status.ok()) return;
    // An unsigned number beyond int64 comes out negative, and is refused as well.
    absl::StatusOr<int32_t> label = CheckLabel(name, i, static_cast<int64_t>(value), classes);
    if (label.ok()) {
      labels[i] = *label;
    } else {
      status = label.status();
    }
  });
  TANDEM_RETURN_IF_ERROR(status);
  return labels;
}

// How the samples of an array lie: the shape that they get, and whether their channels come last.
struct Layout {
  Shape shape;
  bool channels_last = false;
};

absl::StatusOr<Layout> LayoutOf(const fs::path& path, const Shape& array) {
  auto is_channels = [](int64_t n) { return n == 1 || n == 3 || n == 4; };
  switch (array.size()) {
    case 2:
      return Layout{{array[1]}};
    case 3:
      return Layout{{1, array[1], array[2]}};
    case 4:
      if (is_channels(array[3]) && array[1] != 1 && array[1] != 3) return Layout{{array[3], array[1], array[2]}, true};
      return Layout{{array[1], array[2], array[3]}};
    default:
      return InvalidArgument("'", path.string(), "' has shape ", ToString(array),
                             "; samples are N,F or N,H,W or N,H,W,C or N,C,H,W");
  }
}

// Moves the channels of each sample from the last place to the first.
template <typename Values>
Values ChannelsFirst(const Shape& shape, const Values& values) {
  const size_t channels = shape[0], plane = shape[1] * shape[2], size = channels * plane;
  Values out(values);
  for (size_t begin = 0; begin < values.size(); begin += size) {
    for (size_t c = 0; c < channels; ++c) {
      for (size_t i = 0; i < plane; ++i) out[begin + c * plane + i] = values[begin + i * channels + c];
    }
  }
  return out;
}

absl::StatusOr<std::vector<float>> ToFloats(const fs::path& path, const Tensor& tensor) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t count, ElementCount(tensor.shape));
  std::vector<float> values(count);
  int64_t bad = -1;
  ForEach(tensor, [&](size_t i, auto value) {
    values[i] = static_cast<float>(value);
    if (bad < 0 && !std::isfinite(values[i])) bad = static_cast<int64_t>(i);
  });
  if (bad >= 0) {
    const int64_t sample = bad / (count / tensor.shape[0]);
    return InvalidArgument("'", path.string(), "': sample ", sample, " holds ", values[bad],
                           "; only finite numbers can be trained on");
  }
  return values;
}

absl::StatusOr<Loaded> Load(const LoadRequest& request) {
  const std::vector<SplitFile> files = FilesOf(request.files, request.split);
  const fs::path path = PathOf(request.info, files[0]), label_path = PathOf(request.info, files[1]);
  TANDEM_ASSIGN_OR_RETURN(std::vector<int32_t> labels, ReadLabels(label_path, request.info.classes()));
  TANDEM_ASSIGN_OR_RETURN(Tensor tensor, ReadArray(path));
  TANDEM_ASSIGN_OR_RETURN(Layout layout, LayoutOf(path, tensor.shape));
  if (tensor.shape[0] != static_cast<int64_t>(labels.size())) {
    return InvalidArgument("'", path.string(), "' holds ", tensor.shape[0], " samples, '", label_path.string(), "' ",
                           labels.size(), " labels");
  }
  const int64_t classes = CountClasses(labels, request.info.classes());
  if (tensor.dtype == DType::kUint8) {
    std::string bytes(tensor.bytes());
    if (layout.channels_last) bytes = ChannelsFirst(layout.shape, bytes);
    return Loaded{MakeByteDataset(std::move(bytes), 0, layout.shape, std::move(labels), classes), {}, {}};
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<float> values, ToFloats(path, tensor));
  if (layout.channels_last) values = ChannelsFirst(layout.shape, values);
  return Loaded{MakeFloatDataset(std::move(values), layout.shape, std::move(labels), classes), {}, {}};
}

}  // namespace

const Format kNpyFormat = {"npy", "x_train.npy and y_train.npy", Matches, List, Load};

}  // namespace tandem::data
