// What people write: settings of a model, a job, the sharing policy. The first byte chooses which.
#include <stddef.h>
#include <stdint.h>

#include <string_view>

#include "spec/model_config.h"
#include "spec/sharing_spec.h"
#include "spec/train_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: {
      auto config = tandem::spec::ParseModelConfig(text, "fuzz.yaml");
      // What was accepted must be read back to the same.
      if (config.ok() && !tandem::spec::ParseModelConfig(tandem::spec::ToYaml(*config), "again").ok()) __builtin_trap();
      break;
    }
    case 1: {
      auto sharing = tandem::spec::ParseSharing(text, "fuzz.yaml");
      if (sharing.ok() && !tandem::spec::ParseSharing(tandem::spec::ToYaml(*sharing), "again").ok()) __builtin_trap();
      break;
    }
    default:
      (void)tandem::spec::ParseTrainSpec(text, "fuzz.yaml");
  }
  return 0;
}
