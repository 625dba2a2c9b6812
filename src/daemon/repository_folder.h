#pragma once
// What lies in a model repository on disk:
//
//   DIR/NAME/config.pbtxt            optional, with the files of labels that it names
//   DIR/NAME/VERSION/model.onnx      and its data files; VERSION is a number from 1
//   or model.savedmodel/, saved_model.pb (the version's folder is the SavedModel), model.tflite, model.graphdef there
//
// Reading it only; nothing here waits, and no model file is opened. Links may lead from one place of DIR to another
// (volumes of containers are made of such links), but not out of it.
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::daemon {

struct VersionFolder {
  std::filesystem::path path;
  std::string stamp;  // changes when any of its files does
};

// One model as it stands there now. Plain data.
struct ModelFolder {
  std::string name;
  std::filesystem::path path;
  std::map<int32_t, VersionFolder> versions;
  std::string stamp;       // of everything
  int64_t changed_ms = 0;  // Unix time of the newest change
};

// Names of the folders in DIR, without hidden ones.
absl::StatusOr<std::vector<std::string>> ListModelFolders(const std::filesystem::path& repository);

// NotFound if there is no such folder; InvalidArgument for names and files that cannot be served, naming the path.
absl::StatusOr<ModelFolder> ReadModelFolder(const std::filesystem::path& repository, const std::string& name);

// Which file (or folder) of a version is the model. `wanted` is config.pbtxt's default_model_filename, "" = the usual
// names. InvalidArgument says what is there instead.
absl::StatusOr<std::filesystem::path> FindModelFile(const VersionFolder& version, const std::string& wanted);

// The file `name` beside the versions. InvalidArgument for names that are no plain file name.
absl::StatusOr<std::filesystem::path> FileBeside(const ModelFolder& folder, const std::string& name);

}  // namespace tandem::daemon
