// An engine that tests steer. The model file's first word says what goes wrong: "bad" (prepare refuses), "crash"
// (prepare aborts), "hang" (prepare never ends), "crash-load", "crash-run" (they abort), "unloadable" (load refuses),
// "stillborn" (load aborts where TEST_ENGINE_FAIL_LOAD is set), "silent" (run makes no output); anything else works:
// inputs "x" FP32 [-1] and "y" INT32 [2], output "out" = x. The first value of x says what goes wrong in a run:
//   -1 fails   -2 SIGKILL   -3 writes to null   -4 never ends   -5 throws   -6 an unknown code   -7 a negative code
//   -8 exits with code 3   -9 an output of a type that is none   -10 an output larger than its shape   -11 never ends,
//   and computes
// Built with TEST_STUCK, a load in the server never ends; the file `loading` in the prepared folder says that it began.
// Built with TEST_DREAMER, it takes any file and images of any size, input "x" FP32 [-1,-1,-1,-1], output "out" of 4
// zeros a row, and a run on anything but zeros never ends: it passes the warm-up.
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <string>

#include "tandem/engine.h"

#ifndef TEST_ABI
#define TEST_ABI TANDEM_ENGINE_ABI
#endif

struct tandem_model {
  std::string kind;
};
struct tandem_instance {
  tandem_model* model;
};

namespace {

thread_local std::string last_error;
std::mutex mutex;
std::condition_variable changed;
bool held = false;
std::atomic<bool> for_ever{true};
int running = 0, models = 0, instances = 0;

std::string FirstWord(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

tandem_code Fail(tandem_code code, const char* text) {
  last_error = text;
  return code;
}

void Add(int* counter, int n) {
  std::lock_guard lock(mutex);
  *counter += n;
  changed.notify_all();
}

[[maybe_unused]] tandem_code Prepare(const char* model_path, const char* folder, const tandem_option*) {
  std::string kind = FirstWord(model_path);
  if (kind == "bad") return Fail(TANDEM_INVALID_ARGUMENT, "operator 'Nonsense' is not supported");
  if (kind == "crash") std::abort();
  while (kind == "hang") pause();
  std::ofstream(std::filesystem::path(folder) / "kind") << kind;
  return TANDEM_OK;
}

#ifdef TEST_STUCK
// Not in the helpers that prepare and measure.
void HangInServer(const std::filesystem::path& folder) {
  if (std::strcmp(program_invocation_short_name, "tandem-engine-host") == 0) return;
  std::ofstream(folder / "loading") << "begun";
  while (true) pause();
}
#endif

tandem_code Load(const char* folder, const tandem_option*, tandem_model** model) {
#ifdef TEST_STUCK
  HangInServer(folder);
#endif
  std::string kind = FirstWord(std::filesystem::path(folder) / "kind");
  if (kind == "crash-load") std::abort();
  if (kind == "stillborn" && std::getenv("TEST_ENGINE_FAIL_LOAD") != nullptr) std::abort();
  // The child that prepares loads too: only the server is to fail.
  if (kind == "unloadable" && std::getenv("TEST_ENGINE_FAIL_LOAD") != nullptr) {
    return Fail(TANDEM_INTERNAL, "the blob is damaged");
  }
  *model = new tandem_model{kind};
  Add(&models, 1);
  return TANDEM_OK;
}

void Unload(tandem_model* model) {
  delete model;
  Add(&models, -1);
}

tandem_code Signature(const tandem_model*, int32_t is_output, int32_t index, tandem_signature* out) {
#ifdef TEST_DREAMER
  if (index > 0) return TANDEM_NOT_FOUND;
  *out = is_output ? tandem_signature{"out", 1, 2, {-1, 4}} : tandem_signature{"x", 1, 4, {-1, -1, -1, -1}};
#else
  if (index > (is_output ? 0 : 1)) return TANDEM_NOT_FOUND;
  if (index == 1) {
    *out = {"y", 6, 1, {2}};
  } else {
    *out = {is_output ? "out" : "x", 1, 1, {-1}};
  }
#endif
  return TANDEM_OK;
}

tandem_code MakeInstance(tandem_model* model, tandem_instance** instance) {
  *instance = new tandem_instance{model};
  Add(&instances, 1);
  return TANDEM_OK;
}

void FreeInstance(tandem_instance* instance) {
  delete instance;
  Add(&instances, -1);
}

// The wish `what` that is no other code; 0 = none of them.
[[maybe_unused]] tandem_code Misbehave(int what) {
  switch (what) {
    case -1:
      return Fail(TANDEM_INTERNAL, "asked to fail");
    case -2:
      kill(getpid(), SIGKILL);
      break;
    case -3:
      signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would exit with a report
      raise(SIGSEGV);
      break;
    case -4:
      while (true) pause();
    case -5:
      throw std::runtime_error("thrown on purpose");
    case -6:
      return Fail(9999, "a code that nobody knows");
    case -7:
      return Fail(-5, "a code below all");
    case -8:
      _exit(3);
    case -11:
      while (for_ever) {
      }
      break;
    default:
      break;
  }
  return TANDEM_OK;
}

#ifdef TEST_DREAMER
tandem_code Run(tandem_instance*, tandem_request* request, int32_t) {
  const tandem_input& x = request->inputs[0];
  const auto* bytes = static_cast<const char*>(x.data);
  while (std::any_of(bytes, bytes + x.byte_size, [](char byte) { return byte != 0; })) pause();
  const int64_t shape[] = {x.shape[0], 4};
  const size_t size = static_cast<size_t>(x.shape[0]) * 4 * sizeof(float);
  void* out = request->output.allocate(request->output.context, 0, 1, 2, shape, size);
  if (out != nullptr) std::memset(out, 0, size);
  return request->code = TANDEM_OK;
}
#else
tandem_code Run(tandem_instance* instance, tandem_request* request, int32_t) {
  Add(&running, 1);
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [] { return !held; });
  }
  Add(&running, -1);
  const tandem_input& x = request->inputs[0];
  float first = 0;
  if (x.byte_size > 0) std::memcpy(&first, x.data, sizeof first);
  request->code = TANDEM_OK;
  if (instance->model->kind == "crash-run") std::abort();
  if (first < 0 && first > -100) request->code = Misbehave(static_cast<int>(first));
  if (request->code != TANDEM_OK) return request->code;
  if (instance->model->kind == "silent") return TANDEM_OK;
  const tandem_dtype dtype = first == -9 ? 77 : 1;
  const size_t bytes = first == -10 ? x.byte_size + 4 : x.byte_size;
  void* out = request->output.allocate(request->output.context, 0, dtype, 1, x.shape, bytes);
  if (out != nullptr && x.byte_size > 0) std::memcpy(out, x.data, x.byte_size);
  return TANDEM_OK;
}
#endif

[[maybe_unused]] constexpr tandem_engine_api kApi = {
    TEST_ABI,
    [] { return TEST_NAME; },
    [] { return "7"; },
#ifdef TEST_HOLES
    nullptr,
#else
    Prepare,
#endif
    [](const char*, uint64_t* bytes) -> tandem_code {
      *bytes = 1000;
      return TANDEM_OK;
    },
    Load,
    Unload,
    Signature,
    MakeInstance,
    FreeInstance,
    Run,
    [] { return last_error.c_str(); },
};

}  // namespace

// What tests reach through dlsym.
extern "C" {
__attribute__((visibility("default"))) void test_engine_hold(int hold) {
  std::lock_guard lock(mutex);
  held = hold != 0;
  changed.notify_all();
}
// Waits until `count` runs are in progress.
__attribute__((visibility("default"))) void test_engine_await_running(int count) {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return running == count; });
}
// Waits until `count` models are loaded.
__attribute__((visibility("default"))) void test_engine_await_models(int count) {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return models == count; });
}
__attribute__((visibility("default"))) int test_engine_models() {
  std::lock_guard lock(mutex);
  return models;
}

#ifndef TEST_NO_ENTRY
__attribute__((visibility("default"))) const tandem_engine_api* tandem_engine_entry(uint32_t) {
#ifdef TEST_DEAF
  return nullptr;
#else
  return &kApi;
#endif
}
#endif
}
