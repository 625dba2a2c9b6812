#pragma once
// What a door tells of the requests that it traces.
#include <thread>
#include <vector>

#include "telemetry/trace.h"

namespace tandem::api::http::testing {

// The context of W3C's examples, sampled, and the same one not.
inline constexpr char kSampledContext[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
inline constexpr char kUnsampledContext[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

// Traces what its caller wants traced, and nothing else. WaitFor is for one thread.
class Traces {
 public:
  Tracer* tracer() { return &tracer_; }
  // The next `count`: a door may tell of a request after its client has the answer.
  std::vector<RequestTrace> WaitFor(size_t count) {
    std::vector<RequestTrace> found;
    while (found.size() < count) {
      tracer_.Drain(count - found.size(), [&](const RequestTrace& trace) { found.push_back(trace); });
      std::this_thread::yield();
    }
    return found;
  }

 private:
  Counter dropped_;
  Tracer tracer_{0, &dropped_};
};

}  // namespace tandem::api::http::testing
