#include "graph/external.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/fd.h"
#include "base/status.h"
#include "base/tensor.h"
#include "graph/names.h"
#include "graph/tensor_data.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {
namespace {

constexpr size_t kReadBytes = 64 << 10;  // of one call of the kernel, as in base/fd.cc

namespace fs = std::filesystem;

struct DataFile {
  UniqueFd fd;
  int64_t size = 0;
};

struct Piece {
  const DataFile* file;
  std::string location;
  int64_t offset = 0;
  int64_t size = 0;
};

// Opens the file that `location` names, if it lies inside `folder` (which is canonical).
absl::StatusOr<DataFile> OpenInside(const fs::path& folder, const std::string& location) {
  const fs::path relative(location);
  if (location.empty() || location.find('\0') != std::string::npos)
    return InvalidArgument("its file has no usable name");
  bool inside = relative.is_relative();
  for (const fs::path& part : relative) inside = inside && part != "..";
  if (!inside) {
    return InvalidArgument("its data file ", Quote(location), " is outside the model's folder, which is not allowed");
  }
  std::error_code error;
  const fs::path real = fs::canonical(folder / relative, error);
  if (error) {
    return NotFound("its data file ", Quote(location), " cannot be found in ", Quote(folder.string()),
                    "; put it beside the model");
  }
  const fs::path inner = real.lexically_relative(folder);
  if (inner.empty() || *inner.begin() == "..") {
    return InvalidArgument("its data file ", Quote(location), " is a link that leads out of the model's folder");
  }
  DataFile file{UniqueFd(open(real.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK))};
  if (!file.fd.valid()) return ErrnoStatus(errno, StrCat("open its data file ", Quote(location)));
  struct stat info {};
  if (fstat(file.fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return InvalidArgument("its data file ", Quote(location), " is not a regular file");
  }
  file.size = info.st_size;
  return file;
}

absl::StatusOr<std::optional<int64_t>> Number(const onnx::TensorProto& tensor, std::string_view key) {
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() != key) continue;
    int64_t value = 0;
    if (!absl::SimpleAtoi(AbslView(entry.value()), &value) || value < 0) {
      return InvalidArgument("external data: ", key, " is ", Quote(entry.value()), ", must be a number of 0 or more");
    }
    return std::optional<int64_t>(value);
  }
  return std::optional<int64_t>();
}

// Finds and checks one tensor's piece; opens each file once.
absl::StatusOr<Piece> FindPiece(const fs::path& folder, const onnx::TensorProto& tensor,
                                std::map<std::string, DataFile>* files) {
  TANDEM_ASSIGN_OR_RETURN(TensorSignature signature, CheckedSignature(tensor));
  if (signature.dtype == DType::kString) return InvalidArgument("strings cannot stand in another file");
  Piece piece;
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() == "location") piece.location = entry.value();
  }
  TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(signature.shape));
  piece.size = elements * static_cast<int64_t>(ByteSize(signature.dtype));
  TANDEM_ASSIGN_OR_RETURN(std::optional<int64_t> offset, Number(tensor, "offset"));
  TANDEM_ASSIGN_OR_RETURN(std::optional<int64_t> length, Number(tensor, "length"));
  piece.offset = offset.value_or(0);
  if (length && *length != piece.size) {
    return InvalidArgument("shape ", ToString(signature.shape), " of ", ProtocolName(signature.dtype), " needs ",
                           piece.size, " bytes, but its external data have length ", *length);
  }
  if (!files->contains(piece.location)) {
    TANDEM_ASSIGN_OR_RETURN(DataFile opened, OpenInside(folder, piece.location));
    files->emplace(piece.location, std::move(opened));
  }
  piece.file = &files->at(piece.location);
  if (piece.offset > piece.file->size || piece.size > piece.file->size - piece.offset) {
    return InvalidArgument("bytes ", piece.offset, " to ", piece.offset, "+", piece.size,
                           " are past the end of its data file ", Quote(piece.location), " (", piece.file->size,
                           " bytes); the file is cut short or another one");
  }
  return piece;
}

absl::Status ReadPiece(const Piece& piece, onnx::TensorProto* tensor) {
  std::string* data = tensor->mutable_raw_data();
  data->resize(static_cast<size_t>(piece.size));
  for (size_t done = 0; done < data->size();) {
    const ssize_t got = pread(piece.file->fd.get(), data->data() + done, std::min(data->size() - done, kReadBytes),
                              piece.offset + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, StrCat("read its data file ", Quote(piece.location)));
    if (got == 0) return InvalidArgument("its data file ", Quote(piece.location), " became shorter while it was read");
    done += static_cast<size_t>(got);
  }
  tensor->clear_external_data();
  tensor->clear_data_location();
  return absl::OkStatus();
}

bool IsExternal(const onnx::TensorProto& tensor) { return tensor.data_location() == onnx::TensorProto::EXTERNAL; }

}  // namespace

bool HasExternalData(const onnx::ModelProto& model) {
  for (const onnx::TensorProto& tensor : model.graph().initializer()) {
    if (IsExternal(tensor)) return true;
  }
  for (const onnx::NodeProto& node : model.graph().node()) {
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (IsExternal(attribute.t())) return true;
      for (const onnx::TensorProto& tensor : attribute.tensors()) {
        if (IsExternal(tensor)) return true;
      }
    }
  }
  return false;
}

absl::Status JoinExternalData(const fs::path& folder, onnx::ModelProto* model) {
  std::error_code error;
  const fs::path real_folder = fs::canonical(folder.empty() ? fs::path(".") : folder, error);
  if (error) return NotFound("folder ", Quote(folder.string()), " cannot be opened: ", error.message());

  std::map<std::string, DataFile> files;
  std::vector<std::pair<LabelledTensor, Piece>> pieces;
  int64_t total = static_cast<int64_t>(model->ByteSizeLong());
  for (LabelledTensor& item : AllTensors(model->mutable_graph())) {
    if (!IsExternal(*item.tensor)) continue;
    absl::StatusOr<Piece> piece = FindPiece(real_folder, *item.tensor, &files);
    if (!piece.ok()) return Annotate(piece.status(), item.label);
    total += piece->size;
    if (total > INT_MAX) {
      return ResourceExhausted("with its external data the model is larger than the 2 GB that one ONNX file can hold");
    }
    pieces.emplace_back(std::move(item), *std::move(piece));
  }
  for (auto& [item, piece] : pieces) {
    if (absl::Status status = ReadPiece(piece, item.tensor); !status.ok()) return Annotate(status, item.label);
  }
  return absl::OkStatus();
}

}  // namespace tandem::graph
