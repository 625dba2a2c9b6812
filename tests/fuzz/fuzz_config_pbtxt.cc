// A repository's config.pbtxt.
#include <stddef.h>
#include <stdint.h>

#include <string_view>

#include "api/v2/config_pbtxt.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto config = tandem::api::v2::TranslateModelConfigText(text, "config.pbtxt");
  if (!config.ok()) return 0;
  // What was accepted is kept as YAML, and must be read back to the same.
  const tandem::spec::ModelConfig& accepted = config->translated.config;
  auto again = tandem::spec::ParseModelConfig(tandem::spec::ToYaml(accepted), "again");
  if (!again.ok() || *again != accepted) __builtin_trap();
  const tandem::TensorSignature signature = {"x", tandem::DType::kFloat32, {-1, 3}};
  (void)tandem::api::v2::CheckAgainstModel(*config, {signature}, {signature});
  return 0;
}
