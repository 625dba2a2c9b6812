#include "api/http/router.h"

#include <array>

#include "api/http/handlers.h"

namespace tandem::api::http {
namespace {

using enum Verb;
using enum Plane;
using enum Need;
using enum Format;

// First match wins: literal paths stand before patterns that would take them. docs/api.md describes them.
constexpr Route kRoutes[] = {
    {kPost, "/v2/models/{model}/infer", kInfer, kUse, nullptr},
    {kPost, "/v2/models/{model}/versions/{version}/infer", kInfer, kUse, nullptr},

    {kPost, "/v1/models/{model}:predict", kInfer, kUse, nullptr, false, kTfServing},
    {kPost, "/v1/models/{model}/versions/{version}:predict", kInfer, kUse, nullptr, false, kTfServing},
    {kPost, "/v1/models/{model}/labels/{label}:predict", kInfer, kUse, nullptr, false, kTfServing},

    {kGet, "/v2/health/live", kAtOnce, kNothing, HealthLive, true},
    {kGet, "/v2/health/ready", kAtOnce, kNothing, HealthReady, true},
    {kGet, "/metrics", kQuick, kUse, MetricsText, true},
    {kGet, "/v2", kQuick, kUse, ServerMetadata},
    {kGet, "/v2/models/stats", kQuick, kUse, ModelStats},
    {kGet, "/v2/models/{model}", kQuick, kUse, ModelMetadata},
    {kGet, "/v2/models/{model}/versions/{version}", kQuick, kUse, ModelMetadata},
    {kGet, "/v2/models/{model}/ready", kAtOnce, kUse, ModelReady},
    {kGet, "/v2/models/{model}/versions/{version}/ready", kAtOnce, kUse, ModelReady},
    {kGet, "/v2/models/{model}/config", kQuick, kUse, ModelConfig},
    {kGet, "/v2/models/{model}/versions/{version}/config", kQuick, kUse, ModelConfig},
    {kGet, "/v2/models/{model}/stats", kQuick, kUse, ModelStats},
    {kGet, "/v2/models/{model}/versions/{version}/stats", kQuick, kUse, ModelStats},
    {kPost, "/v2/repository/index", kQuick, kUse, RepositoryIndex},
    {kPost, "/v2/repository/{repository}/index", kQuick, kUse, RepositoryIndex},
    {kPost, "/v2/repository/models/{model}/load", kSlow, kManage, RepositoryLoad},
    {kPost, "/v2/repository/{repository}/models/{model}/load", kSlow, kManage, RepositoryLoad},
    {kPost, "/v2/repository/models/{model}/unload", kSlow, kManage, RepositoryUnload},
    {kPost, "/v2/repository/{repository}/models/{model}/unload", kSlow, kManage, RepositoryUnload},
    {kGet, "/v2/systemsharedmemory/status", kQuick, kUse, SharedMemoryStatus},
    {kGet, "/v2/systemsharedmemory/region/{region}/status", kQuick, kUse, SharedMemoryStatus},
    {kPost, "/v2/systemsharedmemory/region/{region}/register", kQuick, kLocal, RegisterSharedMemory},
    {kPost, "/v2/systemsharedmemory/region/{region}/unregister", kQuick, kLocal, UnregisterSharedMemory},
    {kPost, "/v2/systemsharedmemory/unregister", kQuick, kLocal, UnregisterSharedMemory},
    {kGet, "/v2/cudasharedmemory/status", kQuick, kUse, CudaSharedMemoryStatus},
    {kGet, "/v2/cudasharedmemory/region/{region}/status", kQuick, kUse, CudaSharedMemoryStatus},
    {kPost, "/v2/cudasharedmemory/region/{region}/register", kQuick, kUse, RegisterCudaSharedMemory},
    {kPost, "/v2/cudasharedmemory/region/{region}/unregister", kQuick, kUse, UnregisterCudaSharedMemory},
    {kPost, "/v2/cudasharedmemory/unregister", kQuick, kUse, UnregisterCudaSharedMemory},
    {kGet, "/v2/logging", kQuick, kUse, GetLogging},
    {kPost, "/v2/logging", kQuick, kManage, PostLogging},

    {kGet, "/", kAtOnce, kUse, TfAlive},
    {kGet, "/v1/models/{model}", kQuick, kUse, TfModelStatus},
    {kGet, "/v1/models/{model}/versions/{version}", kQuick, kUse, TfModelStatus},
    {kGet, "/v1/models/{model}/labels/{label}", kQuick, kUse, TfModelStatus},
    {kGet, "/v1/models/{model}/metadata", kQuick, kUse, TfModelMetadata},
    {kGet, "/v1/models/{model}/versions/{version}/metadata", kQuick, kUse, TfModelMetadata},
    {kGet, "/v1/models/{model}/labels/{label}/metadata", kQuick, kUse, TfModelMetadata},
    {kPost, "/v1/models/{model}", kQuick, kUse, TfOtherVerb},
    {kPost, "/v1/models/{model}/versions/{version}", kQuick, kUse, TfOtherVerb},
    {kPost, "/v1/models/{model}/labels/{label}", kQuick, kUse, TfOtherVerb},

    {kGet, "/api/v1/status", kQuick, kManage, GetStatus},
    {kGet, "/api/v1/doctor", kSlow, kManage, GetDoctor},
    {kPost, "/api/v1/stop", kQuick, kManage, PostStop},
    {kPost, "/api/v1/gc", kSlow, kManage, PostGc},
    {kPut, "/api/v1/log-level", kQuick, kManage, PutLogLevel},

    {kPost, "/api/v1/jobs", kSlow, kManage, SubmitJob},
    {kGet, "/api/v1/jobs", kQuick, kManage, ListJobs},
    {kGet, "/api/v1/jobs/{id}", kQuick, kManage, ShowJob},
    {kDelete, "/api/v1/jobs/{id}", kSlow, kManage, DeleteJob},
    {kPost, "/api/v1/jobs/{id}/cancel", kQuick, kManage, CancelJob},
    {kPost, "/api/v1/jobs/{id}/pause", kQuick, kManage, PauseJob},
    {kPost, "/api/v1/jobs/{id}/resume", kQuick, kManage, ResumeJob},
    {kGet, "/api/v1/jobs/{id}/logs", kQuick, kManage, JobLogs},
    {kGet, "/api/v1/jobs/{id}/watch", kWait, kManage, WatchJob},
    {kGet, "/api/v1/jobs/{id}/explain", kQuick, kManage, ExplainJob},
    {kPost, "/api/v1/jobs/{id}/release", kSlow, kManage, ReleaseJob},

    {kGet, "/api/v1/recurring", kQuick, kManage, ListRecurring},
    {kGet, "/api/v1/recurring/{id}", kQuick, kManage, ShowRecurring},
    {kDelete, "/api/v1/recurring/{id}", kSlow, kManage, DeleteRecurring},
    {kPost, "/api/v1/recurring/{id}/pause", kQuick, kManage, PauseRecurring},
    {kPost, "/api/v1/recurring/{id}/resume", kQuick, kManage, ResumeRecurring},

    {kGet, "/api/v1/policy", kQuick, kManage, ShowPolicy},
    {kPut, "/api/v1/policy", kSlow, kManage, SetPolicy},
    {kGet, "/api/v1/policy/history", kQuick, kManage, PolicyHistory},
    {kPost, "/api/v1/policy/revert", kSlow, kManage, RevertPolicy},
    {kPost, "/api/v1/policy/undo", kSlow, kManage, UndoPolicy},
    {kGet, "/api/v1/policy/load", kSlow, kManage, RecordedLoad},
    {kGet, "/api/v1/usage", kSlow, kManage, GetUsage},

    {kGet, "/api/v1/models", kQuick, kManage, ListModels},
    {kGet, "/api/v1/models/{name}", kQuick, kManage, ShowModel},
    {kDelete, "/api/v1/models/{name}", kSlow, kManage, DeleteModel},
    {kPost, "/api/v1/models/{name}/versions", kUpload, kManage, ImportModel},
    {kPost, "/api/v1/models/{name}/deploy", kSlow, kManage, DeployModel},
    {kPost, "/api/v1/models/{name}/rollback", kSlow, kManage, RollBackModel},
    {kPost, "/api/v1/models/{name}/promote", kSlow, kManage, PromoteModel},
    {kPost, "/api/v1/models/{name}/measure", kSlow, kManage, MeasureModel},
    {kPost, "/api/v1/models/{name}/canary", kSlow, kManage, SetModelCanary},
    {kPost, "/api/v1/models/{name}/shadow", kSlow, kManage, SetModelShadow},
    {kPost, "/api/v1/models/{name}/approve", kSlow, kManage, ApproveModel},
    {kPost, "/api/v1/models/{name}/reject", kSlow, kManage, RejectModel},
    {kGet, "/api/v1/models/{name}/config", kQuick, kManage, GetModelConfig},
    {kPut, "/api/v1/models/{name}/config", kSlow, kManage, PutModelConfig},
    {kPost, "/api/v1/models/{name}/alias", kQuick, kManage, SetModelAlias},
    {kGet, "/api/v1/models/{name}/file", kQuick, kManage, ModelFile},

    {kPost, "/api/v1/datasets", kWait, kManage, AddDataset},
    {kPost, "/api/v1/datasets/upload", kUpload, kManage, UploadDataset},
    {kGet, "/api/v1/datasets", kQuick, kManage, ListDatasets},
    {kGet, "/api/v1/datasets/{name}", kQuick, kManage, ShowDataset},
    {kDelete, "/api/v1/datasets/{name}", kSlow, kManage, DeleteDataset},
};

constexpr size_t kMostSegments = 8;
using Segments = std::array<std::string_view, kMostSegments>;

// The pieces between slashes; their number, or 0 for a path that no route can have.
size_t Split(std::string_view path, Segments* segments) {
  if (path.empty() || path[0] != '/') return 0;
  size_t count = 0;
  while (!path.empty()) {
    if (count == kMostSegments) return 0;
    path.remove_prefix(1);
    std::string_view segment = path.substr(0, path.find('/'));
    (*segments)[count++] = segment;
    path.remove_prefix(segment.size());
  }
  return count;
}

bool IsParam(std::string_view segment) { return segment.starts_with('{'); }
// What a parameter's segment ends with behind it: ":predict".
std::string_view SuffixOf(std::string_view param) { return param.substr(param.find('}') + 1); }

bool MatchesParam(std::string_view param, std::string_view segment) {
  std::string_view suffix = SuffixOf(param);
  return segment.size() > suffix.size() && segment.ends_with(suffix);
}

bool Matches(std::span<const std::string_view> pattern, const Segments& segments, size_t count) {
  if (pattern.size() != count) return false;
  for (size_t i = 0; i < count; ++i) {
    if (!(IsParam(pattern[i]) ? MatchesParam(pattern[i], segments[i]) : pattern[i] == segments[i])) return false;
  }
  return true;
}

}  // namespace

std::span<const Route> Routes() { return kRoutes; }

Router::Router() {
  for (const Route& route : kRoutes) {
    Segments segments;
    size_t count = Split(route.pattern, &segments);
    compiled_.push_back({&route, {segments.begin(), segments.begin() + count}});
  }
}

Router::Found Router::Find(Verb verb, std::string_view path, bool metrics_port, PathParams* params) const {
  Found found;
  Segments segments;
  size_t count = Split(path, &segments);
  for (const Compiled& candidate : compiled_) {
    if (metrics_port && !candidate.route->on_metrics_port) continue;
    if (!Matches(candidate.segments, segments, count)) continue;
    if (candidate.route->verb != verb) {
      found.allow.append(found.allow.empty() ? "" : ", ").append(VerbName(candidate.route->verb));
      continue;
    }
    params->Clear();
    for (size_t i = 0; i < count; ++i) {
      const std::string_view param = candidate.segments[i];
      if (!IsParam(param)) continue;
      const std::string_view value = segments[i].substr(0, segments[i].size() - SuffixOf(param).size());
      if (!params->Add(param.substr(1, param.find('}') - 1), value)) found.bad_encoding = true;
    }
    found.route = candidate.route;
    return found;
  }
  return found;
}

}  // namespace tandem::api::http
