#include "data/arrays.h"

#include <algorithm>
#include <array>

#include "base/status.h"

namespace tandem::data {
namespace {

// What the data sets in memory share.
class ArrayDataset : public Dataset {
 public:
  ArrayDataset(Shape shape, std::vector<int32_t> labels, int64_t classes)
      : shape_(std::move(shape)), labels_(std::move(labels)), classes_(classes), elements_(*ElementCount(shape_)) {}
  int64_t size() const override { return static_cast<int64_t>(labels_.size()); }
  const Shape& shape() const override { return shape_; }
  int64_t classes() const override { return classes_; }

 protected:
  absl::Status Check(int64_t index, std::span<float> out) const {
    if (index < 0 || index >= size()) return OutOfRange("sample ", index, " of ", size());
    if (static_cast<int64_t>(out.size()) < elements_) {
      return InvalidArgument("room for ", out.size(), " values, a sample has ", elements_);
    }
    return absl::OkStatus();
  }

  const Shape shape_;
  const std::vector<int32_t> labels_;
  const int64_t classes_;
  const int64_t elements_;
};

class ByteDataset : public ArrayDataset {
 public:
  ByteDataset(std::string bytes, size_t offset, Shape shape, std::vector<int32_t> labels, int64_t classes)
      : ArrayDataset(std::move(shape), std::move(labels), classes), bytes_(std::move(bytes)), offset_(offset) {}
  absl::Status Get(int64_t index, std::span<float> out, int32_t* label) const override {
    TANDEM_RETURN_IF_ERROR(Check(index, out));
    auto* first = reinterpret_cast<const uint8_t*>(bytes_.data()) + offset_ + index * elements_;
    BytesToFloats(first, out.first(elements_));
    *label = labels_[index];
    return absl::OkStatus();
  }

 private:
  const std::string bytes_;
  const size_t offset_;
};

class FloatDataset : public ArrayDataset {
 public:
  FloatDataset(std::vector<float> values, Shape shape, std::vector<int32_t> labels, int64_t classes)
      : ArrayDataset(std::move(shape), std::move(labels), classes), values_(std::move(values)) {}
  absl::Status Get(int64_t index, std::span<float> out, int32_t* label) const override {
    TANDEM_RETURN_IF_ERROR(Check(index, out));
    std::copy_n(values_.data() + index * elements_, elements_, out.data());
    *label = labels_[index];
    return absl::OkStatus();
  }

 private:
  const std::vector<float> values_;
};

class Subset : public Dataset {
 public:
  Subset(std::unique_ptr<Dataset> base, std::vector<int64_t> indices)
      : base_(std::move(base)), indices_(std::move(indices)) {}
  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  const Shape& shape() const override { return base_->shape(); }
  int64_t classes() const override { return base_->classes(); }
  absl::Status Get(int64_t index, std::span<float> out, int32_t* label) const override {
    if (index < 0 || index >= size()) return OutOfRange("sample ", index, " of ", size());
    return base_->Get(indices_[index], out, label);
  }

 private:
  const std::unique_ptr<Dataset> base_;
  const std::vector<int64_t> indices_;
};

}  // namespace

void BytesToFloats(const uint8_t* bytes, std::span<float> out) {
  // A look-up costs a third of a division, which the compiler does not vectorise here.
  static constexpr std::array<float, 256> kTable = [] {
    std::array<float, 256> table{};
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(i) / 255.0f;
    return table;
  }();
  for (size_t i = 0; i < out.size(); ++i) out[i] = kTable[bytes[i]];
}

std::unique_ptr<Dataset> MakeByteDataset(std::string bytes, size_t offset, Shape shape, std::vector<int32_t> labels,
                                         int64_t classes) {
  return std::make_unique<ByteDataset>(std::move(bytes), offset, std::move(shape), std::move(labels), classes);
}

std::unique_ptr<Dataset> MakeFloatDataset(std::vector<float> values, Shape shape, std::vector<int32_t> labels,
                                          int64_t classes) {
  return std::make_unique<FloatDataset>(std::move(values), std::move(shape), std::move(labels), classes);
}

std::unique_ptr<Dataset> MakeSubset(std::unique_ptr<Dataset> base, std::vector<int64_t> indices) {
  return std::make_unique<Subset>(std::move(base), std::move(indices));
}

absl::StatusOr<int32_t> CheckLabel(std::string_view file, int64_t sample, int64_t label, int64_t classes) {
  if (label < 0) return InvalidArgument("'", file, "': sample ", sample, " has label ", label, ", labels begin at 0");
  if (classes > 0 && label >= classes) {
    return InvalidArgument("'", file, "': sample ", sample, " has label ", label, ", but there are ", classes,
                           " classes, 0..", classes - 1);
  }
  if (label >= kMaxClasses) {
    return InvalidArgument("'", file, "': sample ", sample, " has label ", label, ", the largest allowed is ",
                           kMaxClasses - 1);
  }
  return static_cast<int32_t>(label);
}

int64_t CountClasses(const std::vector<int32_t>& labels, int64_t classes) {
  if (classes > 0 || labels.empty()) return classes;
  return int64_t{*std::max_element(labels.begin(), labels.end())} + 1;
}

}  // namespace tandem::data
