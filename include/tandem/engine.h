/* The C interface between tandem and an inference engine (a plug-in libtandem_engine_<name>.so).
 *
 * Lifecycle of every function below: unstable (may change until version 1.0 of tandem; then: stable, deprecated,
 * removed).
 *
 * A plug-in exports one symbol, tandem_engine_entry, which returns a table of functions for the ABI version that the
 * host asks for, or NULL. The order of calls is describe -> prepare (in a child process, once per model file) -> load
 * -> make_instance -> run ... -> free_instance -> unload Ownership: the host owns requests, inputs and outputs ALWAYS.
 * The engine asks the host for output memory through tandem_output.allocate, once per output, and never keeps a pointer
 * after the call returns. Strings that the engine returns live until the next call on the same object, or for ever
 * where said. Threads: load, make_instance and unload are called from one thread at a time per model; run may be called
 * from any thread, one call at a time per instance; different instances run at the same time. run must do its work on
 * the thread that calls it. No exception may leave a plug-in.
 */
#ifndef TANDEM_ENGINE_H_
#define TANDEM_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TANDEM_ENGINE_ABI 1
#define TANDEM_ENGINE_MAX_RANK 8

/* Result of a call. The numbers are those of gRPC's status codes. */
typedef int32_t tandem_code;
enum {
  TANDEM_OK = 0,
  TANDEM_CANCELLED = 1,
  TANDEM_INVALID_ARGUMENT = 3,
  TANDEM_NOT_FOUND = 5,
  TANDEM_RESOURCE_EXHAUSTED = 8,
  TANDEM_UNIMPLEMENTED = 12,
  TANDEM_INTERNAL = 13,
  TANDEM_UNAVAILABLE = 14
};

/* Element types: the numbers of TensorProto.DataType of ONNX (1 float32, 2 uint8, ..., 16 bfloat16). */
typedef int32_t tandem_dtype;

/* One input or output of a model. shape[i] = -1 means any size. name lives as long as the model. */
typedef struct tandem_signature {
  const char* name;
  tandem_dtype dtype;
  int32_t rank; /* 0..TANDEM_ENGINE_MAX_RANK */
  int64_t shape[TANDEM_ENGINE_MAX_RANK];
} tandem_signature;

/* A tensor that the engine reads. data is aligned to 64 bytes, row-major, little endian. */
typedef struct tandem_input {
  const void* data;
  size_t byte_size;
  tandem_dtype dtype;
  int32_t rank;
  int64_t shape[TANDEM_ENGINE_MAX_RANK];
} tandem_input;

/* Where one output goes. The engine calls allocate(context, index, dtype, rank, shape, byte_size) once the size is
 * known and writes byte_size bytes to the memory returned (aligned to 64 bytes); NULL means: out of memory, give up. */
typedef struct tandem_output {
  void* context;
  void* (*allocate)(void* context, int32_t index, tandem_dtype dtype, int32_t rank, const int64_t* shape,
                    size_t byte_size);
} tandem_output;

/* One request: inputs in the order of the model's signature; all outputs are produced, in signature order. */
typedef struct tandem_request {
  const tandem_input* inputs;
  int32_t input_count;
  tandem_output output;
  tandem_code code; /* set by the engine */
} tandem_request;

typedef struct tandem_model tandem_model;       /* opaque: weights and signature */
typedef struct tandem_instance tandem_instance; /* opaque: what one thread runs on */

/* Text pairs, ended by {NULL, NULL}. Known keys: "precision" = "f32" | "bf16" | "f16", "device" = "CPU" | ...,
 * "threads" = of one instance, "1" to "64" ("1" when absent: then run is wholly on its caller). */
typedef struct tandem_option {
  const char* key;
  const char* value;
} tandem_option;

typedef struct tandem_engine_api {
  uint32_t abi; /* TANDEM_ENGINE_ABI */

  /* Static text, for ever: name ("openvino") and version of the runtime ("2026.4.1"). */
  const char* (*name)(void);
  const char* (*version)(void);

  /* Reads model_path, checks that every operator is supported, compiles, and writes what load needs into folder
   * (exists, empty). May be slow and may crash: the host calls it in a child process of low priority. */
  tandem_code (*prepare)(const char* model_path, const char* folder, const tandem_option* options);

  /* Bytes that load will take, from a prepared folder. */
  tandem_code (*estimate)(const char* folder, uint64_t* bytes);

  /* Loads a prepared folder; the folder must stay until unload. */
  tandem_code (*load)(const char* folder, const tandem_option* options, tandem_model** model);
  void (*unload)(tandem_model* model);

  /* The i-th input (or output) of a model; TANDEM_NOT_FOUND past the end. */
  tandem_code (*signature)(const tandem_model* model, int32_t is_output, int32_t index, tandem_signature* out);

  tandem_code (*make_instance)(tandem_model* model, tandem_instance** instance);
  void (*free_instance)(tandem_instance* instance);

  /* Runs count requests, one after another or as one batch; sets the code of each. */
  tandem_code (*run)(tandem_instance* instance, tandem_request* requests, int32_t count);

  /* Why the last call on this thread failed; "" if it did not. Valid until the next call on this thread. */
  const char* (*last_error)(void);
} tandem_engine_api;

/* Exported by every plug-in. Returns NULL when it does not speak host_abi. The table lives for ever. */
const tandem_engine_api* tandem_engine_entry(uint32_t host_abi);

#ifdef __cplusplus
}
#endif
#endif /* TANDEM_ENGINE_H_ */
