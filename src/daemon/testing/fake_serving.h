#pragma once
// Serving without engines, for tests of what the daemon asks of it: every desired version is READY at once.
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "serving/serving.h"

namespace tandem::daemon::testing {

// A loaded version that has a signature and nothing else.
class FakeVersion : public serving::LoadedVersion {
 public:
  FakeVersion(std::string model, int32_t version, std::vector<TensorSignature> outputs)
      : model_(std::move(model)), version_(version), outputs_(std::move(outputs)) {}
  const std::string& model() const override { return model_; }
  int32_t version() const override { return version_; }
  const std::vector<TensorSignature>& inputs() const override { return inputs_; }
  const std::vector<TensorSignature>& outputs() const override { return outputs_; }
  const std::string& engine() const override { return engine_; }
  void Submit(serving::Request* request) const override {
    request->status = Unimplemented("a fake runs nothing");
    request->owner->Finished(request);
  }
  const spec::ModelConfig& config() const override { return config_; }
  absl::Status RunInBackground(const std::vector<serving::Request::Input>&, std::vector<Tensor>*) const override {
    return Unimplemented("a fake runs nothing");
  }
  void Record(bool, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) const override {}
  serving::Statistics ReadStatistics() const override { return {}; }
  HistogramSnapshot ReadLatency() const override { return {}; }
  serving::LoadNow ReadLoad() const override { return {}; }

 private:
  const std::string model_, engine_ = "fake";
  const int32_t version_;
  const std::vector<TensorSignature> inputs_ = {{"x", DType::kFloat32, {-1, 4}}}, outputs_;
  const spec::ModelConfig config_;
};

// Thread-compatible.
class FakeServing : public serving::Serving {
 public:
  void SetDesired(std::vector<serving::DesiredModel> models) override { desired = std::move(models); }
  void SetMemoryLimit(int64_t) override {}
  void SetInstanceBound(int) override {}
  absl::StatusOr<serving::Target> Open(std::string_view model, std::string_view version) const override {
    TANDEM_ASSIGN_OR_RETURN(serving::ModelHandle handle, Find(model, version));
    return serving::Target{std::move(handle), nullptr};
  }
  absl::StatusOr<serving::ModelHandle> Find(std::string_view model, std::string_view version) const override {
    for (int32_t served : Served(model)) {
      if (StrCat(served) != version) continue;
      std::vector<TensorSignature> outputs = {{"y", DType::kFloat32, {-1, wide.contains(served) ? 12 : 10}}};
      return std::make_shared<FakeVersion>(std::string(model), served, outputs);
    }
    return NotFound("model '", model, "' has no version ", version, " in service");
  }
  std::vector<serving::VersionStatus> States() const override { return {}; }
  std::vector<int32_t> ReadyVersions(std::string_view model) const override { return Served(model); }
  std::vector<int32_t> ServedVersions(std::string_view model) const override { return Served(model); }
  std::vector<serving::LoadNow> Loads() const override { return loads; }
  std::vector<serving::VersionUse> Uses() const override { return {}; }
  double ChildCpuSeconds() const override { return 0; }
  absl::StatusOr<serving::CanaryReport> ReadCanary(std::string_view model) const override {
    auto found = canaries.find(std::string(model));
    if (found == canaries.end()) return NotFound("model '", model, "' has no canary");
    return found->second;
  }
  absl::StatusOr<serving::ShadowReport> ReadShadow(std::string_view model) const override {
    return NotFound("model '", model, "' has no shadow");
  }
  absl::Status WaitUntilReady(std::string_view model, int32_t version, double) override {
    if (broken.contains(version)) return InvalidArgument("version ", version, " does not load");
    return Find(model, StrCat(version)).status();
  }
  WorkSource* work() override { return nullptr; }
  bool Settled() const override { return true; }

  const serving::DesiredModel* Desired(std::string_view model) const {
    for (const serving::DesiredModel& one : desired) {
      if (one.name == model) return &one;
    }
    return nullptr;
  }
  std::vector<int32_t> Served(std::string_view model) const {
    std::vector<int32_t> versions;
    if (const serving::DesiredModel* one = Desired(model)) {
      for (const serving::DesiredVersion& version : one->versions) versions.push_back(version.version);
    }
    return versions;
  }

  std::vector<serving::DesiredModel> desired;
  std::vector<serving::LoadNow> loads;
  std::set<int32_t> broken;  // versions that do not load
  std::set<int32_t> wide;    // versions of another output shape
  std::map<std::string, serving::CanaryReport> canaries;
};

}  // namespace tandem::daemon::testing
