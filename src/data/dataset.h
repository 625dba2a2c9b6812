#pragma once
// Data sets: read, check, hash, split, decode, augment. Samples are float images 0..1 in C,H,W order (or feature
// vectors), labels are class numbers. No LibTorch.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api.pb.h"
#include "base/tensor.h"

namespace tandem::data {

enum class Split { kTrain, kVal, kTest };
absl::StatusOr<Split> ParseSplit(std::string_view name);

// One split: like Flashlight's Dataset, size() and get(). Immutable; Get is thread-safe.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual const Shape& shape() const = 0;  // of one sample
  virtual int64_t classes() const = 0;
  // Writes sample `index` (0..size-1) as ElementCount(shape()) floats to `out`, and its label. An unreadable file names
  // itself and the byte.
  virtual absl::Status Get(int64_t index, std::span<float> out, int32_t* label) const = 0;
};

// What `tandem dataset add` does: looks at info.path (format "" = guess), checks every sample's label and header,
// computes hash, sizes, classes, class names and split, and returns the record complete. Slow for big sets: run it off
// the request threads. A broken file is named with the byte or row where it breaks. created_ms, if 0, becomes the time
// before the first file was read; classes, if given, is what labels are checked against.
absl::StatusOr<wire::Dataset> Inspect(const wire::Dataset& info);

// Opens one split of an inspected set. InvalidArgument when the files changed since (size or hash of the headers).
// Splits: files of their own where the format has them (IDX: train-* and t10k-*; images: folders train/, val/, test/;
// else train is split); where there is no val, every 10th sample of train by hash of its index becomes val.
absl::StatusOr<std::unique_ptr<Dataset>> Open(const wire::Dataset& info, Split split);

// Counter-based randomness (Philox 4x32-10, Salmon et al. 2011): the same (seed, purpose, a, b) gives the same numbers
// on any machine, in any order, on any thread.
enum class Purpose : uint32_t { kShuffle = 1, kFlip = 2, kCrop = 3, kDropout = 4, kInit = 5, kSplit = 6 };
class RandomStream {
 public:
  RandomStream(uint64_t seed, Purpose purpose, uint64_t a, uint64_t b = 0);
  uint32_t Next() {
    if (used_ == 4) NextBlock();
    return block_[used_++];
  }
  // Uniform in [0, bound), without bias. REQUIRES: bound > 0.
  uint32_t Below(uint32_t bound);
  double Uniform();  // [0, 1)
  double Normal();   // mean 0, variance 1

 private:
  void NextBlock();

  uint32_t counter_[4], key_[2], block_[4];
  int used_ = 4;
};

// The position `index` of a pseudo-random permutation of 0..n-1 that (seed, epoch) alone fixes: a Feistel network with
// cycle walking, so that nothing is stored and any position is reached in O(1).
class Permutation {
 public:
  Permutation(uint64_t seed, uint64_t epoch, int64_t n);
  int64_t operator()(int64_t index) const;

 private:
  int64_t n_;
  int half_bits_;
  uint32_t keys_[4];
};

struct Augmentation {
  bool flip = false;
  int64_t crop_padding = 0;
};
// Augments one C,H,W image in place; keyed by (seed, epoch, sample), so that it is the same wherever and whenever it
// runs.
void Augment(const Augmentation& augmentation, const Shape& shape, uint64_t seed, uint64_t epoch, int64_t sample,
             std::span<float> image);

// Decodes a PNG or JPEG, converts to `channels` (1 grey, 3 colour; 0 = as the file), resizes (bilinear) to height x
// width (0 = as the file). Used by data sets and by `tandem predict --image`.
struct Image {
  Shape shape;                // C,H,W
  std::vector<float> pixels;  // 0..1
};
absl::StatusOr<Image> DecodeImage(std::string_view bytes, int64_t channels, int64_t height, int64_t width);

// NumPy files, read and written: .npy one array, .npz a zip of them (stored or deflated).
absl::StatusOr<Tensor> ReadNpy(std::string_view bytes);
std::string WriteNpy(const Tensor& tensor);
absl::StatusOr<std::vector<Tensor>> ReadNpz(std::string_view bytes);
std::string WriteNpz(const std::vector<Tensor>& tensors);

}  // namespace tandem::data
