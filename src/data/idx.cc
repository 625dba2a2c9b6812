// IDX as MNIST and Fashion-MNIST ship it (yann.lecun.com/exdb/mnist): two zero bytes, the element type (8 = bytes), the
// number of dimensions, each dimension as 32 bits (big endian), the data. Often gzipped.
#include "base/files.h"
#include "base/status.h"
#include "data/arrays.h"
#include "data/formats.h"
#include "data/inflate.h"

namespace tandem::data {
namespace fs = std::filesystem;

namespace {

struct IdxFile {
  std::string bytes;  // header and data, decompressed
  Shape shape;
  size_t data_begin = 0;
};

// The file's name for split "train" and content "images", as found in the wild.
std::string FindFile(const fs::path& folder, std::string_view split, std::string_view content, int dimensions) {
  std::vector<std::string> names;
  for (std::string_view mark : {"-idx", ".idx"}) {
    for (std::string_view ending : {"", ".gz"}) {
      names.push_back(StrCat(split, "-", content, mark, dimensions, "-ubyte", ending));
    }
  }
  return FirstFile(folder, names);
}

std::string FindImages(const fs::path& folder, std::string_view split) { return FindFile(folder, split, "images", 3); }

bool Matches(const fs::path& path) { return !FindImages(path, "train").empty(); }

absl::StatusOr<std::vector<SplitFile>> List(const fs::path& path) {
  const std::pair<Split, std::vector<std::string_view>> names[] = {
      {Split::kTrain, {"train"}}, {Split::kVal, {"val", "valid"}}, {Split::kTest, {"t10k", "test"}}};
  std::vector<SplitFile> files;
  for (const auto& [split, stems] : names) {
    for (std::string_view stem : stems) {
      std::string images = FindImages(path, stem), labels = FindFile(path, stem, "labels", 1);
      if (images.empty() && labels.empty()) continue;
      if (images.empty() || labels.empty()) {
        return NotFound("'", path.string(), "' has ", images.empty() ? labels : images, " but no ", stem, "-",
                        images.empty() ? "images-idx3" : "labels-idx1", "-ubyte");
      }
      files.push_back({split, images});
      files.push_back({split, labels});
      break;
    }
  }
  if (FilesOf(files, Split::kTrain).empty()) {
    return NotFound("'", path.string(), "' has no train-images-idx3-ubyte (or .gz); give the folder that holds it");
  }
  return files;
}

absl::StatusOr<Shape> ParseHeader(std::string_view bytes) {
  constexpr char kUnsignedByte = 8;
  if (bytes.size() < 4) return InvalidArgument("ends at byte ", bytes.size(), ", within the IDX header");
  if (bytes[0] != 0 || bytes[1] != 0) return InvalidArgument("byte 0: not an IDX file, it must begin with two zeros");
  if (bytes[2] != kUnsignedByte) {
    return InvalidArgument("byte 2: element type ", int{static_cast<unsigned char>(bytes[2])},
                           ", only 8 (unsigned bytes) is supported");
  }
  const size_t dimensions = static_cast<unsigned char>(bytes[3]);
  if (dimensions < 1 || dimensions > 3) {
    return InvalidArgument("byte 3: ", dimensions, " dimensions; images have 2 or 3, labels 1");
  }
  if (bytes.size() < 4 + 4 * dimensions)
    return InvalidArgument("ends at byte ", bytes.size(), ", within the IDX header");
  Shape shape;
  for (size_t at = 4; at < 4 + 4 * dimensions; at += 4) {
    uint32_t value = 0;
    for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    shape.push_back(value);
  }
  return shape;
}

// Reads and decompresses one file whose size must be what its header promises.
absl::StatusOr<IdxFile> ReadIdx(const fs::path& path) {
  constexpr size_t kLongestHeader = 16;
  TANDEM_ASSIGN_OR_RETURN(std::string raw, ReadDataFile(path));
  auto parse = [&]() -> absl::StatusOr<IdxFile> {
    IdxFile file;
    const bool gzip = IsGzip(raw);
    std::string head = raw.substr(0, kLongestHeader);
    if (gzip) {
      TANDEM_ASSIGN_OR_RETURN(head, Inflate(raw, Compression::kGzip, kLongestHeader));
    }
    TANDEM_ASSIGN_OR_RETURN(file.shape, ParseHeader(head));
    TANDEM_ASSIGN_OR_RETURN(const int64_t count, ElementCount(file.shape));
    file.data_begin = 4 + 4 * file.shape.size();
    const size_t wanted = file.data_begin + count;
    if (gzip && wanted / kMaxRatio > raw.size()) {
      return InvalidArgument("the header promises ", wanted, " bytes, more than ", raw.size(),
                             " compressed bytes hold");
    }
    if (gzip) {
      TANDEM_ASSIGN_OR_RETURN(file.bytes, Inflate(raw, Compression::kGzip, wanted + 1));
    } else {
      file.bytes = std::move(raw);
    }
    if (file.bytes.size() > wanted) return InvalidArgument("goes on after byte ", wanted, ", where its header ends it");
    if (file.bytes.size() < wanted) {
      return InvalidArgument("ends at byte ", file.bytes.size(), gzip ? " (decompressed)" : "",
                             ", its header promises ", wanted);
    }
    return file;
  };
  absl::StatusOr<IdxFile> file = parse();
  if (!file.ok()) return Annotate(file.status(), StrCat("'", path.string(), "'"));
  return file;
}

absl::StatusOr<Loaded> Load(const LoadRequest& request) {
  const std::vector<SplitFile> files = FilesOf(request.files, request.split);
  const fs::path image_path = PathOf(request.info, files[0]), label_path = PathOf(request.info, files[1]);
  TANDEM_ASSIGN_OR_RETURN(IdxFile images, ReadIdx(image_path));
  TANDEM_ASSIGN_OR_RETURN(IdxFile labels, ReadIdx(label_path));
  if (images.shape.size() < 2) return InvalidArgument("'", image_path.string(), "' holds labels, not images (byte 3)");
  if (labels.shape.size() != 1) return InvalidArgument("'", label_path.string(), "' holds images, not labels (byte 3)");
  if (images.shape[0] != labels.shape[0]) {
    return InvalidArgument("'", image_path.string(), "' holds ", images.shape[0], " images, '", label_path.string(),
                           "' ", labels.shape[0], " labels");
  }
  const std::string label_name = label_path.string();
  std::vector<int32_t> numbers(labels.shape[0]);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto label = static_cast<unsigned char>(labels.bytes[labels.data_begin + i]);
    TANDEM_ASSIGN_OR_RETURN(numbers[i], CheckLabel(label_name, i, label, request.info.classes()));
  }
  Shape shape(images.shape.begin() + 1, images.shape.end());
  if (shape.size() == 2) shape.insert(shape.begin(), 1);
  const int64_t classes = CountClasses(numbers, request.info.classes());
  return Loaded{
      MakeByteDataset(std::move(images.bytes), images.data_begin, shape, std::move(numbers), classes), {}, {}};
}

}  // namespace

const Format kIdxFormat = {"idx", "train-images-idx3-ubyte and train-labels-idx1-ubyte (or .gz)", Matches, List, Load};

}  // namespace tandem::data
