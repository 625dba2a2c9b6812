#pragma once
// The handlers of the control routes: one service call each, translation around it. They run on control threads, those
// of Plane::kAtOnce on data-plane threads.
#include "api/http/request.h"

namespace tandem::api::http {

#define TANDEM_HANDLER(name) absl::StatusOr<Reply> name(const Services& services, const Request& request)

// Open Inference Protocol v2 but infer: v2_models.cc
TANDEM_HANDLER(HealthLive);
TANDEM_HANDLER(HealthReady);
TANDEM_HANDLER(ServerMetadata);
TANDEM_HANDLER(ModelMetadata);
TANDEM_HANDLER(ModelReady);
TANDEM_HANDLER(ModelStats);

// v2_config.cc
TANDEM_HANDLER(ModelConfig);

// v2_repository.cc
TANDEM_HANDLER(RepositoryIndex);
TANDEM_HANDLER(RepositoryLoad);
TANDEM_HANDLER(RepositoryUnload);

// v2_shared_memory.cc
TANDEM_HANDLER(SharedMemoryStatus);
TANDEM_HANDLER(RegisterSharedMemory);
TANDEM_HANDLER(UnregisterSharedMemory);
TANDEM_HANDLER(CudaSharedMemoryStatus);
TANDEM_HANDLER(RegisterCudaSharedMemory);
TANDEM_HANDLER(UnregisterCudaSharedMemory);

// v2_logging.cc
TANDEM_HANDLER(GetLogging);
TANDEM_HANDLER(PostLogging);

// TensorFlow Serving's REST interface but predict: tfserving_models.cc
TANDEM_HANDLER(TfAlive);
TANDEM_HANDLER(TfModelStatus);
TANDEM_HANDLER(TfModelMetadata);
TANDEM_HANDLER(TfOtherVerb);

// metrics_text.cc
TANDEM_HANDLER(MetricsText);

// /api/v1: manage_admin.cc
TANDEM_HANDLER(GetStatus);
TANDEM_HANDLER(GetDoctor);
TANDEM_HANDLER(PostStop);
TANDEM_HANDLER(PostGc);
TANDEM_HANDLER(PutLogLevel);

// manage_jobs.cc
TANDEM_HANDLER(SubmitJob);
TANDEM_HANDLER(ListJobs);
TANDEM_HANDLER(ShowJob);
TANDEM_HANDLER(CancelJob);
TANDEM_HANDLER(PauseJob);
TANDEM_HANDLER(ResumeJob);
TANDEM_HANDLER(DeleteJob);
TANDEM_HANDLER(JobLogs);
TANDEM_HANDLER(WatchJob);
TANDEM_HANDLER(ExplainJob);
TANDEM_HANDLER(ReleaseJob);
TANDEM_HANDLER(ListRecurring);
TANDEM_HANDLER(ShowRecurring);
TANDEM_HANDLER(PauseRecurring);
TANDEM_HANDLER(ResumeRecurring);
TANDEM_HANDLER(DeleteRecurring);

// manage_sharing.cc
TANDEM_HANDLER(ShowPolicy);
TANDEM_HANDLER(PolicyHistory);
TANDEM_HANDLER(SetPolicy);
TANDEM_HANDLER(RevertPolicy);
TANDEM_HANDLER(UndoPolicy);
TANDEM_HANDLER(RecordedLoad);
TANDEM_HANDLER(GetUsage);

// manage_models.cc
TANDEM_HANDLER(ListModels);
TANDEM_HANDLER(ShowModel);
TANDEM_HANDLER(ImportModel);
TANDEM_HANDLER(DeployModel);
TANDEM_HANDLER(RollBackModel);
TANDEM_HANDLER(PromoteModel);
TANDEM_HANDLER(MeasureModel);
TANDEM_HANDLER(SetModelCanary);
TANDEM_HANDLER(SetModelShadow);
TANDEM_HANDLER(ApproveModel);
TANDEM_HANDLER(RejectModel);
TANDEM_HANDLER(GetModelConfig);
TANDEM_HANDLER(PutModelConfig);
TANDEM_HANDLER(SetModelAlias);
TANDEM_HANDLER(ModelFile);
TANDEM_HANDLER(DeleteModel);

// manage_datasets.cc
TANDEM_HANDLER(AddDataset);
TANDEM_HANDLER(UploadDataset);
TANDEM_HANDLER(ListDatasets);
TANDEM_HANDLER(ShowDataset);
TANDEM_HANDLER(DeleteDataset);

#undef TANDEM_HANDLER

}  // namespace tandem::api::http
