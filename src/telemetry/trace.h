#pragma once
// Traces of requests: the context that a client sends (W3C Trace Context), and the way of what was measured from the
// threads that serve to the one that exports. What a span looks like outside is the exporter's business.
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "base/fd.h"
#include "telemetry/metrics.h"

namespace tandem {

using TraceId = std::array<uint8_t, 16>;
using SpanId = std::array<uint8_t, 8>;

struct TraceContext {
  static constexpr uint8_t kSampled = 1;
  TraceId trace_id{};
  SpanId parent_id{};  // zeros: there is none
  uint8_t flags = 0;
};
// The header `traceparent` (W3C Trace Context, 3.2): of version 00 exactly, of a later one as far as 00 goes. Nothing
// for anything else, which is then to be taken as if it had not been sent.
std::optional<TraceContext> ParseTraceParent(std::string_view text);

// From a generator of the calling thread's own, which the kernel seeded: no lock, no system call but the first.
uint64_t RandomBits();
SpanId NewSpanId();  // never zeros

// The beginning of a text, in place; no character of UTF-8 is cut.
template <size_t kMost>
class ShortText {
 public:
  void Set(std::string_view text) {
    size_t size = text.size();
    if (size > kMost) {
      size = kMost;
      while (size > 0 && (text[size] & 0xc0) == 0x80) --size;
    }
    size_ = static_cast<uint16_t>(size);
    if (size_ > 0) memcpy(bytes_, text.data(), size_);
  }
  std::string_view view() const { return {bytes_, size_}; }

 private:
  uint16_t size_ = 0;
  char bytes_[kMost];
};

// What is told of one request: of the whole of it, its wait and its run. Times are monotonic nanoseconds; texts come
// from clients and may be no UTF-8.
struct RequestTrace {
  enum class Door : uint8_t { kHttp, kGrpc };

  // Set by Tracer::Begin.
  TraceContext context;
  SpanId span_id{};
  int64_t unix_offset_ns = 0;  // to be added to times here
  ShortText<512> state;        // the header `tracestate`

  // Set by the door.
  Door door = Door::kHttp;
  int code = 0;               // of HTTP, 0 = the client went away before; or of gRPC
  ShortText<8> verb;          // of HTTP
  ShortText<96> route;        // "/v2/models/{model}/infer", "package.Service/Method"
  ShortText<256> path;        // of HTTP, without the query
  ShortText<256> error;       // the message of a failure
  ShortText<128> model;       // as it was asked for, where none was found
  ShortText<32> version;      // "" = none was found
  ShortText<128> request_id;  // the client's
  bool cached = false;
  int64_t begin_ns = 0, end_ns = 0;
  int64_t queued_ns = 0;               // when it was handed to its model
  int64_t queue_ns = 0, infer_ns = 0;  // durations; 0 = it did not come to that
};

// Decides which requests are traced, and hands them from many threads to one. Begin and what it gives: thread-safe,
// without a lock, an allocation or a wait; a full ring drops and counts. Drain and Wait: one thread at a time.
//
// The ring is D. Vyukov's bounded queue (1024cores.net): each cell's number says whose turn it is.
class Tracer {
 public:
  // What OpenTelemetry's batch processor holds by default.
  static constexpr size_t kRing = 2048;

  // `ratio` (0..1) of the requests without a context begin a trace; of those with one, what the caller decided goes.
  // `dropped` counts requests that found no room; it outlives this. `ring` is a power of two.
  Tracer(double ratio, Counter* dropped, size_t ring = kRing);
  ~Tracer();

  // A cell of the ring while it is filled in, which must be soon; given to the exporter at the end of its life.
  class Record {
   public:
    Record() = default;
    Record(Record&& other) noexcept : tracer_(std::exchange(other.tracer_, nullptr)), position_(other.position_) {}
    Record& operator=(Record&&) = delete;
    ~Record() {
      if (tracer_ != nullptr) tracer_->Publish(position_);
    }
    explicit operator bool() const { return tracer_ != nullptr; }
    RequestTrace* operator->() const;

   private:
    friend class Tracer;
    Record(Tracer* tracer, uint64_t position) : tracer_(tracer), position_(position) {}
    Tracer* tracer_ = nullptr;
    uint64_t position_ = 0;
  };
  // Of a request whose headers were these ("" = none): a record, its context filled in, or none: it is not traced.
  Record Begin(std::string_view traceparent, std::string_view tracestate);

  // Calls use(trace) for those at hand, the oldest first, at most `most`; how many there were.
  size_t Drain(size_t most, const std::function<void(const RequestTrace&)>& use);
  // Until there is a good part of a ring to drain, Wake was called, or the time is over.
  void Wait(double seconds);
  // From any thread; never waits.
  void Wake();

 private:
  struct Cell;

  Record Reserve();
  void Publish(uint64_t position);
  Cell& CellOf(uint64_t position) const;

  const double ratio_;
  const uint64_t mask_, wake_every_;
  Counter* const dropped_;
  const std::unique_ptr<Cell[]> cells_;
  const UniqueFd event_;
  alignas(64) std::atomic<uint64_t> tail_ = 0;  // the next one to be filled
  alignas(64) uint64_t head_ = 0;               // the next one to be drained
};

}  // namespace tandem
