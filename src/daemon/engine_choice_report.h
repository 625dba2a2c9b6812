#pragma once
// What was measured of one version on each engine, and which engine follows from it. Pure functions.
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"

namespace tandem::daemon {

// One engine's row.
struct EngineResult {
  std::string engine, version;
  std::string error;                 // why it cannot serve the model; "" = it can
  bool candidate = true;             // false: it only served as the reference, with other options than the version's
  bool compared = false;             // with the reference's outputs
  double max_difference = 0;         // absolute
  double relative_difference = 0;    // against the scale of the outputs
  std::map<int, double> latency_ms;  // by batch size
  double hop_ms = 0;                 // what a request pays beside that: the way into another process
  bool held_back = false;            // by HoldBack, whatever it measures; `error` says why

  bool Serves() const { return candidate && error.empty(); }
};

struct EngineReport {
  std::string key;  // what it was measured with: KeyOf
  double when_ms = 0;
  std::string default_engine;  // serves where nothing is better by a clear margin
  std::string precision = "f32";
  int batch = 1;          // the batch size that decides
  std::string samples;    // where the inputs came from
  std::string reference;  // an engine; "interpreter" for the one that trains; "" = there was nothing to compare with
  std::string note;       // why the reference is not the interpreter
  std::vector<EngineResult> engines;
  // By Choose.
  std::string chosen;  // "" = no engine serves it
  std::string why;
};

// The engine that is the reference interpreter.
inline constexpr std::string_view kReferenceEngine = "torch";
inline constexpr std::string_view kInterpreter = "interpreter";

// Engines that compute what a model says, of those that are there. In one place, with the reasons: "echo" gives its
// input back whatever the file says, and would win; so does "gate", the test engine that fails on command.
std::vector<engine::EngineInfo> ComputingEngines(std::vector<engine::EngineInfo> all);

// What a report depends on: engines and their versions, options, batch, isolation. Another key: measure again.
std::string KeyOf(const std::vector<engine::EngineInfo>& engines, const engine::Options& options, int batch,
                  std::string_view isolation);

// Largest share of the outputs' scale by which an engine may differ from the reference.
double ToleranceOf(std::string_view precision);

// Gives those an error whose outputs are not the reference's, and sets `chosen` and `why`: the least latency among
// those that serve, but the default engine unless another is faster by a clear margin.
void Choose(EngineReport* report);

// The version could not be loaded on the chosen engine, for the reason `error`: chooses among the others. False, with
// nothing changed, where none of them serves it.
bool StrikeOut(std::string_view error, EngineReport* report);

// The server ended while `engine` loaded the version, which `former` had served: `engine` is held back, for the reason
// given, and `former` is chosen; where something was found against that one, the best of the others. False, with
// nothing changed, where none of them serves it.
bool HoldBack(const std::string& engine, const std::string& former, std::string_view reason, EngineReport* report);

// Choose for what was measured anew, beside what `former` says: whom that holds back is held back, and where none of
// the others serves it, what served stays.
void ChooseBeside(const EngineReport& former, EngineReport* report);

// As the registry keeps it. A report that cannot be read is empty, and so has no key.
std::string ToJson(const EngineReport& report);
EngineReport EngineReportFromJson(std::string_view json);

// "onnxruntime: its reason; torch: its reason" of those that do not serve it, without `except`.
std::string WhyOthersDoNot(const EngineReport& report, std::string_view except);

}  // namespace tandem::daemon
