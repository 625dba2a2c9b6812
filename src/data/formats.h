#pragma once
// What a data set's format must offer. A new format is one file with these three functions and a row in dataset.cc.
#include <filesystem>
#include <string>
#include <vector>

#include "api.pb.h"
#include "data/dataset.h"

namespace tandem::data {

// One file of a data set.
struct SplitFile {
  Split split;
  std::string name;  // relative to the data set's folder; of the file itself when the path is a file
};

// What a loader is told.
struct LoadRequest {
  // What is known of the set: path, resize, label_column; shape, classes and class_names as soon as train was loaded.
  const wire::Dataset& info;
  // All files of the set, in the order in which `list` gave them.
  const std::vector<SplitFile>& files;
  Split split;
  bool once;  // each sample will be read once: keep nothing
};

// One split, and what was learned on the way (the same fields, filled in).
struct Loaded {
  std::unique_ptr<Dataset> samples;
  std::vector<std::string> class_names;  // empty: classes have numbers only
  std::string label_column;
};

struct Format {
  std::string_view name;
  std::string_view wants;  // for the message when no format fits
  // Cheap guess from names alone.
  bool (*matches)(const std::filesystem::path& path);
  // The files of each split. Train is never empty.
  absl::StatusOr<std::vector<SplitFile>> (*list)(const std::filesystem::path& path);
  absl::StatusOr<Loaded> (*load)(const LoadRequest& request);
};

extern const Format kIdxFormat, kImagesFormat, kCsvFormat, kNpyFormat;

// Where a file of the set lies.
std::filesystem::path PathOf(const wire::Dataset& info, const SplitFile& file);
// Those of one split, in order.
std::vector<SplitFile> FilesOf(const std::vector<SplitFile>& files, Split split);
// The first of `names` that is a file in `folder`; "" if none is.
std::string FirstFile(const std::filesystem::path& folder, const std::vector<std::string>& names);
// A whole file, at most 16 GiB.
absl::StatusOr<std::string> ReadDataFile(const std::filesystem::path& path);

}  // namespace tandem::data
