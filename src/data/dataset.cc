#include "data/dataset.h"

#include <sys/stat.h>

#include <algorithm>
#include <limits>

#include "base/clock.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "data/arrays.h"
#include "data/formats.h"

namespace tandem::data {
namespace fs = std::filesystem;

namespace {

constexpr const Format* kFormats[] = {&kIdxFormat, &kNpyFormat, &kCsvFormat, &kImagesFormat};  // the order of guesses
constexpr int64_t kMaxFileBytes = int64_t{16} << 30;
// One in so many samples of train becomes val.
constexpr uint32_t kValShare = 10;

absl::StatusOr<const Format*> FindFormat(const wire::Dataset& info) {
  std::vector<std::string> names;
  std::string wants;
  for (const Format* format : kFormats) {
    if (info.format().empty() ? format->matches(info.path()) : info.format() == format->name) return format;
    names.emplace_back(format->name);
    StrAppend(&wants, wants.empty() ? "" : "; ", format->name, ": ", format->wants);
  }
  if (!info.format().empty()) {
    return InvalidArgument("data set format '", info.format(), "' is not known", DidYouMean(info.format(), names),
                           " (idx, images, csv, npy)");
  }
  return InvalidArgument("'", info.path(), "' is none of the known formats (", wants,
                         "); check the path, or say which with --format");
}

absl::StatusOr<std::vector<SplitFile>> ListFiles(const Format& format, const wire::Dataset& info) {
  std::error_code error;
  if (!fs::exists(info.path(), error)) {
    return NotFound("data set path '", info.path(), "' does not exist, or may not be read by the server");
  }
  return CatchToStatus("list the data set's files", [&] { return format.list(info.path()); });
}

// What can be seen of the files without reading them.
struct Footprint {
  double bytes = 0;
  double newest_ms = 0;  // change of content or of attributes, whichever was last
};

absl::StatusOr<Footprint> Measure(const wire::Dataset& info, const std::vector<SplitFile>& files) {
  Footprint sum;
  auto millis = [](const timespec& t) {
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
  };
  for (const SplitFile& file : files) {
    const fs::path path = PathOf(info, file);
    struct stat st;
    if (stat(path.c_str(), &st) != 0) return ErrnoStatus(errno, StrCat("stat '", path.string(), "'"));
    if (!S_ISREG(st.st_mode)) return InvalidArgument("'", path.string(), "' is not a plain file");
    sum.bytes += static_cast<double>(st.st_size);
    sum.newest_ms = std::max({sum.newest_ms, millis(st.st_mtim), millis(st.st_ctim)});
  }
  return sum;
}

// SHA-256 over each file's name and the SHA-256 of its content, by name: no file need fit into memory.
absl::StatusOr<std::string> HashFiles(const wire::Dataset& info, std::vector<SplitFile> files) {
  std::sort(files.begin(), files.end(), [](const SplitFile& a, const SplitFile& b) { return a.name < b.name; });
  Sha256 hash;
  for (const SplitFile& file : files) {
    TANDEM_ASSIGN_OR_RETURN(std::string content, Sha256HexOfFile(PathOf(info, file)));
    hash.Update(StrCat(content, "  ", file.name, "\n"));
  }
  return hash.FinishHex();
}

absl::Status CheckUnchanged(const wire::Dataset& info, const std::vector<SplitFile>& files) {
  // File times are coarse: what changed shortly before the set was added may have changed while it was.
  constexpr double kDoubtMs = 2000;
  TANDEM_ASSIGN_OR_RETURN(Footprint now, Measure(info, files));
  bool same = now.bytes == info.bytes();
  if (same && now.newest_ms >= info.created_ms() - kDoubtMs) {
    TANDEM_ASSIGN_OR_RETURN(std::string hash, HashFiles(info, files));
    same = hash == info.sha256();
  }
  if (same) return absl::OkStatus();
  return InvalidArgument("the files in '", info.path(), "' changed since it was added; run tandem dataset add again");
}

struct SplitIndices {
  std::vector<int64_t> train, val;
};

// Chooses val by each index alone, so that the choice is the same everywhere. Neither part is empty if it can be
// helped.
SplitIndices SplitTrain(int64_t size) {
  SplitIndices out;
  for (int64_t i = 0; i < size; ++i) {
    bool chosen = RandomStream(0, Purpose::kSplit, i).Below(kValShare) == 0;
    (chosen ? out.val : out.train).push_back(i);
  }
  if (out.val.empty() && out.train.size() > 1) {
    out.val.push_back(out.train.back());
    out.train.pop_back();
  } else if (out.train.empty() && !out.val.empty()) {
    out.train.push_back(out.val.front());
    out.val.erase(out.val.begin());
  }
  return out;
}

// Adds what train taught to the record; later splits must fit it.
absl::Status Learn(const Loaded& loaded, wire::Dataset* info) {
  const Dataset& samples = *loaded.samples;
  TANDEM_ASSIGN_OR_RETURN(const int64_t elements, ElementCount(samples.shape()));
  constexpr int64_t kMaxElements = int64_t{1} << 30;
  if (samples.size() == 0) return InvalidArgument("'", info->path(), "' has no training samples");
  if (elements < 1 || elements > kMaxElements) {
    return InvalidArgument("'", info->path(), "' has samples of shape ", ToString(samples.shape()),
                           "; from 1 to 2^30 values are allowed");
  }
  info->clear_shape();
  for (int64_t dim : samples.shape()) info->add_shape(static_cast<int32_t>(dim));
  info->set_classes(static_cast<int32_t>(samples.classes()));
  *info->mutable_class_names() = {loaded.class_names.begin(), loaded.class_names.end()};
  info->set_label_column(loaded.label_column);
  return absl::OkStatus();
}

absl::Status CheckShape(const Dataset& samples, const wire::Dataset& info, Split split) {
  Shape wanted(info.shape().begin(), info.shape().end());
  if (samples.shape() == wanted) return absl::OkStatus();
  return InvalidArgument("'", info.path(), "': samples of ", split == Split::kTest ? "test" : "val", " have shape ",
                         ToString(samples.shape()), ", those of train ", ToString(wanted));
}

// Reads every sample once.
absl::Status ReadAll(const Dataset& samples) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t elements, ElementCount(samples.shape()));
  std::vector<float> values(elements);
  int32_t label = 0;
  for (int64_t i = 0; i < samples.size(); ++i) TANDEM_RETURN_IF_ERROR(samples.Get(i, values, &label));
  return absl::OkStatus();
}

absl::Status InspectSplit(const Format& format, const std::vector<SplitFile>& files, Split split, wire::Dataset* info) {
  if (FilesOf(files, split).empty()) return absl::OkStatus();
  const wire::Dataset known = *info;
  TANDEM_ASSIGN_OR_RETURN(Loaded loaded, format.load({known, files, split, /*once=*/true}));
  const Dataset& samples = *loaded.samples;
  if (samples.size() > std::numeric_limits<int32_t>::max()) return InvalidArgument("more than 2^31 samples");
  const auto size = static_cast<int32_t>(samples.size());
  if (split == Split::kTrain) {
    TANDEM_RETURN_IF_ERROR(Learn(loaded, info));
    info->set_train(size);
  } else {
    TANDEM_RETURN_IF_ERROR(CheckShape(samples, *info, split));
    split == Split::kVal ? info->set_val(size) : info->set_test(size);
  }
  return ReadAll(samples);
}

absl::StatusOr<wire::Dataset> InspectFiles(const wire::Dataset& given) {
  TANDEM_ASSIGN_OR_RETURN(const Format* format, FindFormat(given));
  wire::Dataset info = given;
  info.set_format(std::string(format->name));
  for (auto clear : {&wire::Dataset::clear_shape, &wire::Dataset::clear_class_names}) (info.*clear)();
  for (auto clear : {&wire::Dataset::clear_train, &wire::Dataset::clear_val, &wire::Dataset::clear_test}) {
    (info.*clear)();
  }
  if (info.created_ms() == 0) info.set_created_ms(static_cast<double>(Clock::Real()->UnixMillis()));
  TANDEM_ASSIGN_OR_RETURN(std::vector<SplitFile> files, ListFiles(*format, info));
  TANDEM_ASSIGN_OR_RETURN(Footprint footprint, Measure(info, files));
  info.set_bytes(footprint.bytes);
  TANDEM_ASSIGN_OR_RETURN(*info.mutable_sha256(), HashFiles(info, files));
  for (Split split : {Split::kTrain, Split::kVal, Split::kTest}) {
    TANDEM_RETURN_IF_ERROR(InspectSplit(*format, files, split, &info));
  }
  if (FilesOf(files, Split::kVal).empty()) {
    const SplitIndices indices = SplitTrain(info.train());
    info.set_train(static_cast<int32_t>(indices.train.size()));
    info.set_val(static_cast<int32_t>(indices.val.size()));
  }
  return info;
}

absl::StatusOr<std::unique_ptr<Dataset>> OpenFiles(const wire::Dataset& info, Split split) {
  if (info.sha256().empty() || info.format().empty() || info.shape().empty()) {
    return InvalidArgument("data set '", info.name(), "' was not inspected; run tandem dataset add");
  }
  TANDEM_ASSIGN_OR_RETURN(const Format* format, FindFormat(info));
  TANDEM_ASSIGN_OR_RETURN(std::vector<SplitFile> files, ListFiles(*format, info));
  TANDEM_RETURN_IF_ERROR(CheckUnchanged(info, files));
  const bool derived = FilesOf(files, Split::kVal).empty() && split != Split::kTest;
  const Split source = derived ? Split::kTrain : split;
  if (FilesOf(files, source).empty()) {
    return InvalidArgument("data set '", info.name(), "' has no test samples; use the val split");
  }
  TANDEM_ASSIGN_OR_RETURN(Loaded loaded, format->load({info, files, source, /*once=*/false}));
  if (!derived) return std::move(loaded.samples);
  SplitIndices indices = SplitTrain(loaded.samples->size());
  return MakeSubset(std::move(loaded.samples),
                    split == Split::kTrain ? std::move(indices.train) : std::move(indices.val));
}

}  // namespace

fs::path PathOf(const wire::Dataset& info, const SplitFile& file) {
  const fs::path root(info.path());
  std::error_code error;
  return fs::is_directory(root, error) ? root / file.name : root;
}

std::vector<SplitFile> FilesOf(const std::vector<SplitFile>& files, Split split) {
  std::vector<SplitFile> out;
  std::copy_if(files.begin(), files.end(), std::back_inserter(out),
               [&](const SplitFile& f) { return f.split == split; });
  return out;
}

std::string FirstFile(const fs::path& folder, const std::vector<std::string>& names) {
  std::error_code error;
  for (const std::string& name : names) {
    if (fs::is_regular_file(folder / name, error)) return name;
  }
  return "";
}

absl::StatusOr<std::string> ReadDataFile(const fs::path& path) { return ReadFile(path, kMaxFileBytes); }

absl::StatusOr<Split> ParseSplit(std::string_view name) {
  if (name == "train") return Split::kTrain;
  if (name == "val") return Split::kVal;
  if (name == "test") return Split::kTest;
  return InvalidArgument("split '", name, "' is not known", DidYouMean(name, {"train", "val", "test"}),
                         " (train, val, test)");
}

absl::StatusOr<wire::Dataset> Inspect(const wire::Dataset& info) {
  absl::StatusOr<wire::Dataset> record = CatchToStatus("inspect", [&] { return InspectFiles(info); });
  if (!record.ok()) return Annotate(record.status(), StrCat("data set '", info.name(), "'"));
  return record;
}

absl::StatusOr<std::unique_ptr<Dataset>> Open(const wire::Dataset& info, Split split) {
  absl::StatusOr<std::unique_ptr<Dataset>> opened = CatchToStatus("open", [&] { return OpenFiles(info, split); });
  if (!opened.ok()) return Annotate(opened.status(), StrCat("data set '", info.name(), "'"));
  return opened;
}

}  // namespace tandem::data
