#include "telemetry/trace.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <span>

#include "base/clock.h"

namespace tandem {
namespace {

// "00-" 32 digits "-" 16 digits "-" 2 digits.
constexpr size_t kTraceAt = 3, kParentAt = 36, kFlagsAt = 53, kLength = 55;
// Of flags, those that the Recommendation and its second level define: sampled, random.
constexpr uint8_t kKnownFlags = 3;
// The Recommendation asks for 512 at least; longer ones may be dropped as a whole.
constexpr size_t kMostState = 512;

// Lower-case digits only. False for anything else.
bool ParseHex(std::string_view text, std::span<uint8_t> bytes) {
  auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

bool AllZero(std::span<const uint8_t> bytes) {
  for (uint8_t byte : bytes) {
    if (byte != 0) return false;
  }
  return true;
}

// xoshiro256++ of Blackman and Vigna, "Scrambled linear pseudorandom number generators" (2021).
struct Generator {
  Generator() {
    // The kernel fails only where it has no such call: then time and place make identifiers that are still distinct.
    if (getrandom(state, sizeof state, 0) == sizeof state) return;
    state[0] = static_cast<uint64_t>(Clock::Real()->MonotonicNanos());
    state[1] = reinterpret_cast<uintptr_t>(this);
    state[2] = static_cast<uint64_t>(getpid());
    state[3] = 1;
    for (int i = 0; i < 16; ++i) Next();
  }
  uint64_t Next() {
    const uint64_t result = std::rotl(state[0] + state[3], 23) + state[0];
    const uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = std::rotl(state[3], 45);
    return result;
  }
  uint64_t state[4];
};

void FillRandom(std::span<uint8_t> bytes) {
  do {
    for (size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
      const uint64_t bits = RandomBits();
      memcpy(bytes.data() + i, &bits, sizeof bits);
    }
  } while (AllZero(bytes));
}

// Printable ASCII only: what else there may be is no list, and is passed on to nobody.
bool IsTraceState(std::string_view text) {
  if (text.size() > kMostState) return false;
  for (char c : text) {
    if ((c < ' ' && c != '\t') || c > '~') return false;
  }
  return true;
}

int64_t UnixOffset() {
  using std::chrono::nanoseconds, std::chrono::system_clock, std::chrono::duration_cast;
  const int64_t unix_ns = duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count();
  return unix_ns - Clock::Real()->MonotonicNanos();
}

}  // namespace

std::optional<TraceContext> ParseTraceParent(std::string_view text) {
  if (text.size() < kLength) return std::nullopt;
  if (text[kTraceAt - 1] != '-' || text[kParentAt - 1] != '-' || text[kFlagsAt - 1] != '-') return std::nullopt;
  uint8_t version = 0;
  TraceContext context;
  if (!ParseHex(text, {&version, 1}) || version == 0xff) return std::nullopt;
  if (text.size() > kLength && (version == 0 || text[kLength] != '-')) return std::nullopt;
  if (!ParseHex(text.substr(kTraceAt), context.trace_id) || AllZero(context.trace_id)) return std::nullopt;
  if (!ParseHex(text.substr(kParentAt), context.parent_id) || AllZero(context.parent_id)) return std::nullopt;
  if (!ParseHex(text.substr(kFlagsAt), {&context.flags, 1})) return std::nullopt;
  context.flags &= version == 0 ? kKnownFlags : TraceContext::kSampled;
  return context;
}

uint64_t RandomBits() {
  thread_local Generator generator;
  return generator.Next();
}

SpanId NewSpanId() {
  SpanId id;
  FillRandom(id);
  return id;
}

struct Tracer::Cell {
  // The position whose turn it is to fill the cell, and one more once it is filled.
  std::atomic<uint64_t> turn = 0;
  RequestTrace trace;
};

Tracer::Tracer(double ratio, Counter* dropped, size_t ring)
    : ratio_(ratio),
      mask_(ring - 1),
      wake_every_(ring / 8 + 1),
      dropped_(dropped),
      cells_(new Cell[ring]),
      event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  for (uint64_t i = 0; i < ring; ++i) cells_[i].turn.store(i, std::memory_order_relaxed);
}

Tracer::~Tracer() = default;

Tracer::Cell& Tracer::CellOf(uint64_t position) const { return cells_[position & mask_]; }

RequestTrace* Tracer::Record::operator->() const { return &tracer_->CellOf(position_).trace; }

Tracer::Record Tracer::Begin(std::string_view traceparent, std::string_view tracestate) {
  std::optional<TraceContext> context;
  if (!traceparent.empty()) context = ParseTraceParent(traceparent);
  const bool begins = !context.has_value();
  // 53 bits are what a double holds.
  if (begins ? static_cast<double>(RandomBits() >> 11) * 0x1p-53 >= ratio_
             : (context->flags & TraceContext::kSampled) == 0) {
    return {};
  }
  Record record = Reserve();
  if (!record) return record;
  RequestTrace* trace = std::construct_at(&CellOf(record.position_).trace);
  if (begins) {
    trace->context.flags = TraceContext::kSampled;
    FillRandom(trace->context.trace_id);
  } else {
    trace->context = *context;
    if (IsTraceState(tracestate)) trace->state.Set(tracestate);
  }
  trace->span_id = NewSpanId();
  trace->unix_offset_ns = UnixOffset();
  return record;
}

Tracer::Record Tracer::Reserve() {
  uint64_t position = tail_.load(std::memory_order_relaxed);
  while (true) {
    const uint64_t turn = CellOf(position).turn.load(std::memory_order_acquire);
    if (turn == position) {
      if (tail_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) return {this, position};
    } else if (turn < position) {  // not drained yet since the last time round
      dropped_->Add(1);
      return {};
    } else {
      position = tail_.load(std::memory_order_relaxed);
    }
  }
}

void Tracer::Publish(uint64_t position) {
  CellOf(position).turn.store(position + 1, std::memory_order_release);
  if ((position + 1) % wake_every_ == 0) Wake();
}

size_t Tracer::Drain(size_t most, const std::function<void(const RequestTrace&)>& use) {
  size_t count = 0;
  for (; count < most; ++count, ++head_) {
    Cell& cell = CellOf(head_);
    if (cell.turn.load(std::memory_order_acquire) != head_ + 1) break;
    use(cell.trace);
    cell.turn.store(head_ + mask_ + 1, std::memory_order_release);
  }
  return count;
}

void Tracer::Wait(double seconds) {
  pollfd one = {.fd = event_.get(), .events = POLLIN, .revents = 0};
  poll(&one, 1, static_cast<int>(seconds * 1000));
  uint64_t ignored;
  if (read(event_.get(), &ignored, sizeof ignored) < 0) return;  // nobody called: the time is over
}

void Tracer::Wake() {
  const uint64_t one = 1;
  if (write(event_.get(), &one, sizeof one) < 0) return;  // it is awake already
}

}  // namespace tandem
