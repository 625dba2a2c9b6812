#include "training/checkpoint.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/numbers.h"
#include "base/status.h"
#include "base/tensor.h"
#include "telemetry/log.h"

namespace tandem::training {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kMagic = "TANDEMCK";
constexpr uint32_t kVersion = 1;
constexpr size_t kHashSize = 64;
constexpr std::string_view kPrefix = "checkpoint-", kSuffix = ".tckpt";

static_assert(std::endian::native == std::endian::little, "checkpoints are written as memory lies");

// Hands the bytes on in pieces: small ones gathered, a tensor's as they lie. Hashes what it hands on.
class Encoder {
 public:
  explicit Encoder(const ByteSink& sink) : sink_(sink) {}

  void Bytes(std::string_view bytes) { gathered_.append(bytes); }
  template <typename T>
  void Number(T value) {
    gathered_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void Text(std::string_view text) {
    Number(static_cast<uint32_t>(text.size()));
    gathered_.append(text);
  }
  absl::Status TensorData(const at::Tensor& tensor) {
    at::Tensor dense = tensor.contiguous();
    Number(static_cast<int32_t>(dense.scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32));
    Number(static_cast<uint32_t>(dense.dim()));
    for (int64_t dimension : dense.sizes()) Number(dimension);
    Number(static_cast<uint64_t>(dense.nbytes()));
    std::string_view data(static_cast<const char*>(dense.const_data_ptr()), dense.nbytes());
    if (data.size() < kGathered) {
      gathered_.append(data);
      return gathered_.size() < kGathered ? absl::OkStatus() : HandOn();
    }
    TANDEM_RETURN_IF_ERROR(HandOn());
    for (; !data.empty(); data.remove_prefix(std::min(kPiece, data.size()))) {
      hash_.Update(data.substr(0, kPiece));
      TANDEM_RETURN_IF_ERROR(sink_(data.substr(0, kPiece)));
    }
    return absl::OkStatus();
  }
  absl::Status Finish() {
    TANDEM_RETURN_IF_ERROR(HandOn());
    return sink_(hash_.FinishHex());
  }

 private:
  static constexpr size_t kGathered = 256 << 10, kPiece = 1 << 20;

  absl::Status HandOn() {
    hash_.Update(gathered_);
    TANDEM_RETURN_IF_ERROR(sink_(gathered_));
    gathered_.clear();
    return absl::OkStatus();
  }

  const ByteSink& sink_;
  std::string gathered_;
  Sha256 hash_;
};

// Every read is checked against what is left.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  absl::Status Bytes(size_t size, std::string_view* out) {
    if (size > rest_.size()) return InvalidArgument("it ends too early");
    *out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return absl::OkStatus();
  }
  template <typename T>
  absl::Status Number(T* out) {
    std::string_view bytes;
    TANDEM_RETURN_IF_ERROR(Bytes(sizeof(T), &bytes));
    std::memcpy(out, bytes.data(), sizeof(T));
    return absl::OkStatus();
  }
  absl::Status Text(std::string* out) {
    uint32_t size = 0;
    std::string_view bytes;
    TANDEM_RETURN_IF_ERROR(Number(&size));
    TANDEM_RETURN_IF_ERROR(Bytes(size, &bytes));
    *out = std::string(bytes);
    return absl::OkStatus();
  }
  absl::Status TensorData(at::Tensor* out) {
    int32_t dtype = 0;
    uint32_t rank = 0;
    TANDEM_RETURN_IF_ERROR(Number(&dtype));
    TANDEM_RETURN_IF_ERROR(Number(&rank));
    if (rank > 16) return InvalidArgument("a tensor has ", rank, " dimensions");
    Shape shape(rank);
    for (int64_t& dimension : shape) TANDEM_RETURN_IF_ERROR(Number(&dimension));
    uint64_t size = 0;
    std::string_view data;
    TANDEM_RETURN_IF_ERROR(Number(&size));
    TANDEM_RETURN_IF_ERROR(Bytes(size, &data));
    TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(shape));
    bool wide = dtype == static_cast<int32_t>(DType::kFloat64);
    if ((!wide && dtype != static_cast<int32_t>(DType::kFloat32)) ||
        size != static_cast<uint64_t>(count) * (wide ? 8 : 4)) {
      return InvalidArgument("a tensor's type and size do not agree");
    }
    *out = at::empty(shape, wide ? at::kDouble : at::kFloat);
    if (size > 0) std::memcpy(out->mutable_data_ptr(), data.data(), size);
    return absl::OkStatus();
  }
  bool done() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

absl::Status DecodeBody(Reader* reader, Checkpoint* checkpoint) {
  TANDEM_RETURN_IF_ERROR(reader->Text(&checkpoint->fingerprint));
  TANDEM_RETURN_IF_ERROR(reader->Text(&checkpoint->precision));
  for (int64_t* number : {&checkpoint->step, &checkpoint->steps, &checkpoint->evaluated_step}) {
    TANDEM_RETURN_IF_ERROR(reader->Number(number));
  }
  for (double* number : {&checkpoint->smoothed_loss, &checkpoint->loss, &checkpoint->accuracy}) {
    TANDEM_RETURN_IF_ERROR(reader->Number(number));
  }
  uint32_t count = 0;
  TANDEM_RETURN_IF_ERROR(reader->Number(&count));
  for (uint32_t i = 0; i < count; ++i) {
    auto& [name, tensor] = checkpoint->tensors.emplace_back();
    TANDEM_RETURN_IF_ERROR(reader->Text(&name));
    TANDEM_RETURN_IF_ERROR(reader->TensorData(&tensor));
  }
  return reader->done() ? absl::OkStatus() : InvalidArgument("it has bytes after its end");
}

}  // namespace

absl::Status EncodeCheckpoint(const Checkpoint& checkpoint, const ByteSink& sink) {
  Encoder encoder(sink);
  encoder.Bytes(kMagic);
  encoder.Number(kVersion);
  encoder.Number(uint32_t{0});
  encoder.Text(checkpoint.fingerprint);
  encoder.Text(checkpoint.precision);
  for (int64_t number : {checkpoint.step, checkpoint.steps, checkpoint.evaluated_step}) encoder.Number(number);
  for (double number : {checkpoint.smoothed_loss, checkpoint.loss, checkpoint.accuracy}) encoder.Number(number);
  encoder.Number(static_cast<uint32_t>(checkpoint.tensors.size()));
  for (const auto& [name, tensor] : checkpoint.tensors) {
    encoder.Text(name);
    TANDEM_RETURN_IF_ERROR(encoder.TensorData(tensor));
  }
  return encoder.Finish();
}

std::string EncodeCheckpoint(const Checkpoint& checkpoint) {
  std::string bytes;
  EncodeCheckpoint(checkpoint, [&](std::string_view piece) {
    bytes.append(piece);
    return absl::OkStatus();
  }).IgnoreError();  // the sink never fails
  return bytes;
}

absl::StatusOr<Checkpoint> DecodeCheckpoint(std::string_view bytes) {
  if (bytes.size() < kMagic.size() + 8 + kHashSize || !bytes.starts_with(kMagic)) {
    return InvalidArgument("it is no checkpoint");
  }
  std::string_view body = bytes.substr(0, bytes.size() - kHashSize);
  if (Sha256Hex(body) != bytes.substr(body.size())) return InvalidArgument("its checksum is wrong");
  Reader reader(body.substr(kMagic.size()));
  uint32_t version = 0, zero = 0;
  TANDEM_RETURN_IF_ERROR(reader.Number(&version));
  TANDEM_RETURN_IF_ERROR(reader.Number(&zero));
  if (version != kVersion) {
    return FailedPrecondition("it has version ", version, ", this program reads ", kVersion,
                              "; go on with the program that wrote it, or remove it to begin anew");
  }
  Checkpoint checkpoint;
  TANDEM_RETURN_IF_ERROR(DecodeBody(&reader, &checkpoint));
  return checkpoint;
}

std::vector<CheckpointFolder::Entry> CheckpointFolder::List() const {
  std::vector<Entry> entries;
  std::error_code error;
  for (const fs::directory_entry& file : fs::directory_iterator(folder_, error)) {
    std::string name = file.path().filename().string();
    int64_t step = 0;
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
    std::string digits = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
    if (absl::SimpleAtoi(digits, &step)) entries.push_back({step, file.path()});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.step > b.step; });
  return entries;
}

absl::StatusOr<fs::path> CheckpointFolder::Write(const Checkpoint& checkpoint, StopToken stop) const {
  fs::path path = folder_ / StrCat(kPrefix, checkpoint.step, kSuffix);
  TANDEM_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  TANDEM_RETURN_IF_ERROR(EncodeCheckpoint(checkpoint, [&](std::string_view piece) -> absl::Status {
    if (stop.stop_requested()) return Cancelled("another checkpoint is written instead");
    return pace_->Write(piece, &file);
  }));
  TANDEM_RETURN_IF_ERROR(file.Commit());
  std::vector<Entry> entries = List();
  std::error_code ignored;  // a file too many does no harm
  for (size_t i = kKept; i < entries.size(); ++i) fs::remove(entries[i].path, ignored);
  return path;
}

void CheckpointFolder::RemoveUnfinished() const {
  std::error_code error;
  for (const fs::directory_entry& file : fs::directory_iterator(folder_, error)) {
    std::string name = file.path().filename().string();
    std::error_code ignored;
    if (name.starts_with(kPrefix) && name.find(".tmp-") != std::string::npos) fs::remove(file.path(), ignored);
  }
}

int64_t CheckpointFolder::LatestStep() const {
  const std::vector<Entry> entries = List();
  return entries.empty() ? 0 : entries.front().step;
}

absl::StatusOr<std::optional<Checkpoint>> CheckpointFolder::ReadLatest() const {
  for (const Entry& entry : List()) {
    TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadFile(entry.path, int64_t{1} << 40));
    absl::StatusOr<Checkpoint> checkpoint = DecodeCheckpoint(bytes);
    if (checkpoint.ok()) return std::optional<Checkpoint>(*std::move(checkpoint));
    // It is whole, and hours of work: not to be put aside by a program that is too old for it.
    if (absl::IsFailedPrecondition(checkpoint.status())) {
      return Annotate(checkpoint.status(), StrCat("checkpoint '", entry.path.string(), "'"));
    }
    Log(LogLevel::kWarning, "checkpoint is broken, going back to the one before",
        {{"file", entry.path.string()}, {"why", std::string(MessageOf(checkpoint.status()))}});
    fs::path aside = entry.path;
    aside += ".broken";
    std::error_code error;
    fs::rename(entry.path, aside, error);
    if (error) return ErrnoStatus(error.value(), StrCat("rename '", entry.path.string(), "'"));
  }
  return std::optional<Checkpoint>();
}

}  // namespace tandem::training
