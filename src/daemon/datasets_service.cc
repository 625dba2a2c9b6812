#include "daemon/datasets_service.h"

#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "base/unpack_tar.h"
#include "data/dataset.h"
#include "spec/train_spec.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMostFiles = 2'000'000;  // of an upload, which has 2 GiB at most

}  // namespace

class DatasetsService::Claim {
 public:
  Claim(DatasetsService* service, std::string_view name) : service_(service), name_(name) {}
  ~Claim() {
    std::lock_guard lock(service_->mutex_);
    service_->taken_.erase(name_);
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

 private:
  DatasetsService* const service_;
  const std::string name_;
};

absl::StatusOr<std::unique_ptr<DatasetsService::Claim>> DatasetsService::Take(std::string_view name) {
  std::lock_guard lock(mutex_);
  if (!taken_.emplace(name).second) {
    return AlreadyExists("data set '", name, "' is being added or deleted by another request; try again later");
  }
  return std::make_unique<Claim>(this, name);
}

absl::StatusOr<std::unique_ptr<DatasetsService::Claim>> DatasetsService::TakeNew(std::string_view name) {
  TANDEM_RETURN_IF_ERROR(CheckName("data set name", name));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Claim> claim, Take(name));
  if (registry_->GetDataset(name).ok()) {
    return AlreadyExists("data set '", name, "' exists; delete it first (tandem dataset delete), or take another name");
  }
  return claim;
}

absl::StatusOr<wire::Dataset> DatasetsService::Register(const api::Caller& caller, wire::Dataset dataset) {
  dataset.set_created_by(caller.name);
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset inspected, data::Inspect(dataset));
  TANDEM_RETURN_IF_ERROR(registry_->AddDataset(inspected));
  return registry_->GetDataset(inspected.name());
}

template <typename Fill>
absl::StatusOr<wire::Dataset> DatasetsService::RegisterOwn(const api::Caller& caller, wire::Dataset dataset,
                                                           Fill fill) {
  TANDEM_RETURN_IF_ERROR(housekeeper_->CheckArea("training"));
  const fs::path folder = paths_.datasets() / dataset.name();
  std::error_code error;
  fs::remove_all(folder, error);  // what a try that the server did not survive left: no record names it
  TANDEM_RETURN_IF_ERROR(MakeFolders(folder));
  dataset.set_path(folder.string());
  dataset.set_copied(true);
  absl::Status filled = fill(folder);
  absl::StatusOr<wire::Dataset> registered =
      filled.ok() ? Register(caller, dataset) : absl::StatusOr<wire::Dataset>(filled);
  if (!registered.ok()) fs::remove_all(folder, error);
  return registered;
}

absl::StatusOr<wire::Dataset> DatasetsService::Add(const api::Caller& caller, const wire::AddDatasetRequest& request) {
  if (!caller.local)
    return PermissionDenied("a path of the server can only be named on the server's machine; upload the files instead");
  wire::Dataset dataset = request.dataset();
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Claim> claim, TakeNew(dataset.name()));
  std::error_code error;
  fs::path path = fs::canonical(dataset.path(), error);
  if (error) return ErrnoStatus(error.value(), StrCat("path '", dataset.path(), "'"));
  dataset.set_path(path.string());
  if (!request.copy()) return Register(caller, std::move(dataset));
  return RegisterOwn(caller, std::move(dataset), [&](const fs::path& folder) {
    return CopyTree(path, fs::is_directory(path, error) ? folder : folder / path.filename(), pace_);
  });
}

absl::StatusOr<wire::Dataset> DatasetsService::Upload(const api::Caller& caller, const wire::AddDatasetRequest& request,
                                                      const std::string& tar_file) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Claim> claim, TakeNew(request.dataset().name()));
  return RegisterOwn(caller, request.dataset(),
                     [&](const fs::path& folder) { return UnpackTar(tar_file, folder, kMostFiles, pace_); });
}

wire::DatasetList DatasetsService::List() {
  wire::DatasetList list;
  for (wire::Dataset& dataset : registry_->ListDatasets()) *list.add_datasets() = std::move(dataset);
  return list;
}

absl::StatusOr<wire::Dataset> DatasetsService::Show(std::string_view name) { return registry_->GetDataset(name); }

absl::Status DatasetsService::Delete(const api::Caller&, std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Claim> claim, Take(name));
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset dataset, registry_->GetDataset(name));
  for (const jobs::JobRecord& record : jobs_->List()) {
    absl::StatusOr<spec::TrainSpec> spec = spec::ParseTrainSpec(record.spec, "job");
    if (!jobs::IsEnd(record.state) && spec.ok() && spec->dataset == name) {
      return FailedPrecondition("data set '", name, "' is in use by job ", record.id, "; wait for it, or cancel it");
    }
  }
  TANDEM_RETURN_IF_ERROR(registry_->DeleteDataset(name));
  std::error_code error;
  if (dataset.copied()) fs::remove_all(paths_.datasets() / std::string(name), error);
  return error ? ErrnoStatus(error.value(), "remove the copied files") : absl::OkStatus();
}

}  // namespace tandem::daemon
