// A folder of class folders with PNG and JPEG files, or train/, val/, test/ with class folders each.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <set>

#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "data/arrays.h"
#include "data/codec.h"
#include "data/formats.h"

namespace tandem::data {
namespace fs = std::filesystem;

namespace {

// Decoded pixels of up to this size stay in memory.
constexpr int64_t kCacheBytes = int64_t{1} << 30;
constexpr int64_t kMaxFileBytes = int64_t{256} << 20;

// Names in a folder, sorted by their bytes; without hidden ones and what file managers leave behind.
absl::StatusOr<std::vector<std::string>> ListFolder(const fs::path& folder) {
  return CatchToStatus("list a folder", [&]() -> absl::StatusOr<std::vector<std::string>> {
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      std::string name = entry.path().filename().string();
      if (name.starts_with('.') || name == "Thumbs.db" || name == "desktop.ini") continue;
      if (!IsUtf8(name)) {
        return InvalidArgument("'", folder.string(), "' holds a name that is not UTF-8; rename it");
      }
      names.push_back(std::move(name));
    }
    std::sort(names.begin(), names.end());
    return names;
  });
}

bool IsFolder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// The first of the names that is a folder; "" if none is.
std::string FirstFolder(const fs::path& root, std::initializer_list<std::string_view> names) {
  for (std::string_view name : names) {
    if (IsFolder(root / name)) return std::string(name);
  }
  return "";
}

bool Matches(const fs::path& path) {
  absl::StatusOr<std::vector<std::string>> names = ListFolder(path);
  if (!IsFolder(path) || !names.ok()) return false;
  return std::any_of(names->begin(), names->end(), [&](const std::string& name) { return IsFolder(path / name); });
}

// Adds the files of the class folders in root/prefix.
absl::Status ListClasses(const fs::path& root, const std::string& prefix, Split split, std::vector<SplitFile>* files) {
  const fs::path folder = root / prefix;
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> classes, ListFolder(folder));
  for (const std::string& name : classes) {
    if (!IsFolder(folder / name)) continue;  // notes and lists beside the class folders
    TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> pictures, ListFolder(folder / name));
    if (pictures.empty() && split == Split::kTrain) {
      return InvalidArgument("class folder '", (folder / name).string(), "' is empty; add pictures or remove it");
    }
    for (const std::string& picture : pictures) {
      if (IsFolder(folder / name / picture)) {
        return InvalidArgument("'", (folder / name / picture).string(), "' is a folder inside a class folder");
      }
      files->push_back({split, (fs::path(prefix) / name / picture).string()});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SplitFile>> List(const fs::path& path) {
  std::error_code error;
  if (fs::exists(path, error) && !fs::is_directory(path, error)) {
    return InvalidArgument("'", path.string(),
                           "' is a file; pictures lie in a folder that has one folder for each class");
  }
  std::vector<SplitFile> files;
  if (FirstFolder(path, {"train"}).empty()) {
    TANDEM_RETURN_IF_ERROR(ListClasses(path, "", Split::kTrain, &files));
  } else {
    const std::pair<Split, std::string> folders[] = {{Split::kTrain, "train"},
                                                     {Split::kVal, FirstFolder(path, {"val", "valid", "validation"})},
                                                     {Split::kTest, FirstFolder(path, {"test"})}};
    for (const auto& [split, folder] : folders) {
      if (!folder.empty()) TANDEM_RETURN_IF_ERROR(ListClasses(path, folder, split, &files));
    }
  }
  if (FilesOf(files, Split::kTrain).empty()) {
    return NotFound("'", path.string(), "' has no class folders with pictures (or train/ with class folders)");
  }
  return files;
}

std::string ClassOf(const SplitFile& file) { return fs::path(file.name).parent_path().filename().string(); }

// Decoded samples, kept as bytes. Each is written once, by whoever decoded it first. Thread-safe.
class PixelCache {
 public:
  PixelCache(int64_t samples, int64_t sample_bytes)
      : sample_bytes_(sample_bytes),
        // calloc takes large blocks from the system untouched: samples never read cost nothing.
        pixels_(static_cast<uint8_t*>(std::calloc(samples, sample_bytes))),
        states_(pixels_ == nullptr ? 0 : samples) {}

  // Null if the sample is not there yet.
  const uint8_t* Find(int64_t index) const {
    if (states_.empty() || states_[index].load(std::memory_order_acquire) != kReady) return nullptr;
    return pixels_.get() + index * sample_bytes_;
  }
  void Put(int64_t index, const std::vector<uint8_t>& pixels) {
    uint8_t expected = kEmpty;
    if (states_.empty() || !states_[index].compare_exchange_strong(expected, kBusy)) return;
    std::copy(pixels.begin(), pixels.end(), pixels_.get() + index * sample_bytes_);
    states_[index].store(kReady, std::memory_order_release);
  }

 private:
  enum : uint8_t { kEmpty, kBusy, kReady };
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };

  const int64_t sample_bytes_;
  const std::unique_ptr<uint8_t[], Free> pixels_;
  std::vector<std::atomic<uint8_t>> states_;
};

struct Picture {
  fs::path path;
  int32_t label;
};

class ImageDataset : public Dataset {
 public:
  ImageDataset(std::vector<Picture> pictures, Shape shape, int64_t classes, std::unique_ptr<PixelCache> cache)
      : pictures_(std::move(pictures)), shape_(std::move(shape)), classes_(classes), cache_(std::move(cache)) {}
  int64_t size() const override { return static_cast<int64_t>(pictures_.size()); }
  const Shape& shape() const override { return shape_; }
  int64_t classes() const override { return classes_; }

  absl::Status Get(int64_t index, std::span<float> out, int32_t* label) const override {
    if (index < 0 || index >= size()) return OutOfRange("sample ", index, " of ", size());
    const size_t elements = shape_[0] * shape_[1] * shape_[2];
    if (out.size() < elements) return InvalidArgument("room for ", out.size(), " values, a sample has ", elements);
    *label = pictures_[index].label;
    const uint8_t* cached = cache_ != nullptr ? cache_->Find(index) : nullptr;
    if (cached != nullptr) {
      BytesToFloats(cached, out.first(elements));
      return absl::OkStatus();
    }
    TANDEM_ASSIGN_OR_RETURN(Pixels pixels, Decode(pictures_[index].path));
    BytesToFloats(pixels.bytes.data(), out.first(elements));
    if (cache_ != nullptr) cache_->Put(index, pixels.bytes);
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<Pixels> Decode(const fs::path& path) const {
    TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadFile(path, kMaxFileBytes));
    absl::StatusOr<Pixels> pixels = CatchToStatus("decode", [&] {
      return DecodePixels(bytes, {shape_[0], shape_[1], shape_[2]});
    });
    if (!pixels.ok()) return Annotate(pixels.status(), StrCat("'", path.string(), "'"));
    return pixels;
  }

  const std::vector<Picture> pictures_;
  const Shape shape_;
  const int64_t classes_;
  const std::unique_ptr<PixelCache> cache_;
};

// Colour if any picture is, else grey; the size that was asked for, else the first picture's.
absl::StatusOr<Shape> FindShape(const LoadRequest& request) {
  const wire::Dataset& info = request.info;
  if (info.shape_size() == 3) return Shape(info.shape().begin(), info.shape().end());
  if (info.resize_size() != 0 && (info.resize_size() != 2 || info.resize(0) < 1 || info.resize(1) < 1)) {
    return InvalidArgument("resize must be a height and a width, both 1 or more");
  }
  Shape shape;
  for (const SplitFile& file : request.files) {
    const fs::path path = PathOf(info, file);
    TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadFile(path, kMaxFileBytes));
    absl::StatusOr<ImageSize> size = ReadImageSize(bytes);
    if (!size.ok()) return Annotate(size.status(), StrCat("'", path.string(), "'"));
    if (shape.empty()) shape = {size->channels, size->height, size->width};
    shape[0] = std::max(shape[0], size->channels);
  }
  if (info.resize_size() == 2) shape = {shape[0], info.resize(0), info.resize(1)};
  return shape;
}

absl::StatusOr<Loaded> Load(const LoadRequest& request) {
  const std::vector<SplitFile> files = FilesOf(request.files, request.split);
  std::vector<std::string> names(request.info.class_names().begin(), request.info.class_names().end());
  if (names.empty()) {
    std::set<std::string> classes;
    for (const SplitFile& file : files) classes.insert(ClassOf(file));
    names.assign(classes.begin(), classes.end());
  }
  TANDEM_ASSIGN_OR_RETURN(Shape shape, FindShape(request));
  std::map<std::string_view, int32_t> number;
  for (const std::string& name : names) number.emplace(name, static_cast<int32_t>(number.size()));
  std::vector<Picture> pictures;
  for (const SplitFile& file : files) {
    const std::string name = ClassOf(file);
    auto found = number.find(name);
    if (found == number.end()) {
      return InvalidArgument("'", PathOf(request.info, file).string(), "': class '", name, "' has no folder in train",
                             DidYouMean(name, names));
    }
    pictures.push_back({PathOf(request.info, file), found->second});
  }
  TANDEM_ASSIGN_OR_RETURN(const int64_t bytes, ElementCount(shape));
  const auto count = static_cast<int64_t>(pictures.size()), classes = static_cast<int64_t>(names.size());
  std::unique_ptr<PixelCache> cache;
  if (!request.once && bytes <= kCacheBytes / std::max<int64_t>(count, 1)) {
    cache = std::make_unique<PixelCache>(count, bytes);
  }
  return Loaded{
      std::make_unique<ImageDataset>(std::move(pictures), shape, classes, std::move(cache)), std::move(names), {}};
}

}  // namespace

const Format kImagesFormat = {"images", "a folder for each class, with PNG or JPEG files", Matches, List, Load};

}  // namespace tandem::data
