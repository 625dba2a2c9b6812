#include "tandem/synthetic_images.h"

#include "base/files.h"
#include "base/status.h"
#include "data/dataset.h"

namespace tandem::cli {
namespace {

constexpr int64_t kSide = 28, kClasses = 10;

void AppendBigEndian(int64_t value, std::string* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift & 0xff));
}

// Two zeros, 8 = bytes, the number of dimensions, then each of them.
std::string IdxHead(std::initializer_list<int64_t> shape) {
  std::string head = {0, 0, 8, static_cast<char>(shape.size())};
  for (int64_t size : shape) AppendBigEndian(size, &head);
  return head;
}

absl::Status WriteSplit(const std::string& stem, int64_t count, uint64_t seed) {
  std::string images = IdxHead({count, kSide, kSide}), labels = IdxHead({count});
  images.reserve(images.size() + count * kSide * kSide);
  data::RandomStream random(seed, data::Purpose::kShuffle, 3);
  for (int64_t i = 0; i < count; ++i) {
    const auto label = static_cast<int64_t>(random.Below(kClasses));
    labels.push_back(static_cast<char>(label));
    for (int64_t y = 0; y < kSide; ++y) {
      for (int64_t x = 0; x < kSide; ++x) {
        // A bar of two columns, or, for the upper half of the classes, of two rows.
        int64_t along = label < kClasses / 2 ? x : y;
        bool bright = along / 2 == 2 + 2 * (label % (kClasses / 2));
        images.push_back(static_cast<char>(random.Below(90) + (bright ? 150 : 0)));
      }
    }
  }
  TANDEM_RETURN_IF_ERROR(WriteFileAtomically(stem + "-images-idx3-ubyte", images));
  return WriteFileAtomically(stem + "-labels-idx1-ubyte", labels);
}

}  // namespace

absl::Status WriteSyntheticImages(const std::string& folder, const ImageCounts& counts) {
  TANDEM_RETURN_IF_ERROR(MakeFolders(folder));
  TANDEM_RETURN_IF_ERROR(WriteSplit(folder + "/train", counts.train, 1));
  TANDEM_RETURN_IF_ERROR(WriteSplit(folder + "/val", counts.val, 2));
  return WriteSplit(folder + "/t10k", counts.test, 3);
}

}  // namespace tandem::cli
