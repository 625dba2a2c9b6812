#pragma once
// The extension model_configuration.
#include "api/service.h"
#include "model_config.pb.h"

namespace tandem::api::rpc {

// How the model is served, as clients of the protocol read it; the same content as over HTTP.
void FillConfig(const InferSession& session, inference::ModelConfig* message);

}  // namespace tandem::api::rpc
