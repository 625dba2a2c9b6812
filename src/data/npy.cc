#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/status.h"
#include "data/dataset.h"
#include "data/npy_header.h"

namespace tandem::data {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr size_t kAlignment = 64;  // NumPy's own writer pads the header to this

struct TypeRow {
  std::string_view code;  // without the byte order
  DType dtype;
};
constexpr TypeRow kTypes[] = {
    {"f4", DType::kFloat32}, {"u1", DType::kUint8},   {"i1", DType::kInt8},   {"u2", DType::kUint16},
    {"i2", DType::kInt16},   {"i4", DType::kInt32},   {"i8", DType::kInt64},  {"b1", DType::kBool},
    {"f2", DType::kFloat16}, {"f8", DType::kFloat64}, {"u4", DType::kUint32}, {"u8", DType::kUint64},
};

DType TypeOf(std::string_view code) {
  auto* row = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& r) { return r.code == code; });
  return row == std::end(kTypes) ? DType::kInvalid : row->dtype;
}

std::string_view CodeOf(DType dtype) {
  auto* row = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& r) { return r.dtype == dtype; });
  return row == std::end(kTypes) ? "" : row->code;
}

size_t LittleEndian(std::string_view bytes) {
  size_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// Writes the array at `data`, whose first index runs fastest, with the last index fastest.
void FromFortranOrder(const char* data, const Shape& shape, size_t element, char* out) {
  std::vector<int64_t> index(shape.size(), 0), stride(shape.size());
  int64_t count = 1;
  for (size_t d = 0; d < shape.size(); ++d) {
    stride[d] = count;
    count *= shape[d];
  }
  int64_t from = 0;
  for (int64_t i = 0; i < count; ++i) {
    memcpy(out + i * element, data + from * element, element);
    for (size_t d = shape.size(); d-- > 0;) {
      from += stride[d];
      if (++index[d] < shape[d]) break;
      from -= stride[d] * shape[d];
      index[d] = 0;
    }
  }
}

// bfloat16 is the upper half of a float; NumPy has no name for it.
Tensor WidenBFloat16(const Tensor& tensor) {
  Tensor out{tensor.name, DType::kFloat32, tensor.shape, AlignedBuffer(tensor.buffer.size() * 2)};
  for (size_t i = 0; i < tensor.buffer.size() / 2; ++i) {
    out.As<float>()[i] = std::bit_cast<float>(uint32_t{tensor.As<uint16_t>()[i]} << 16);
  }
  return out;
}

// Elements of one length, filled up with zero bytes: NumPy's 'S' type.
std::string PadStrings(const Tensor& tensor, size_t* longest) {
  std::vector<std::string_view> items;
  std::string_view rest = tensor.bytes();
  *longest = 1;
  while (rest.size() >= 4) {
    size_t size = std::min(LittleEndian(rest.substr(0, 4)), rest.size() - 4);
    items.push_back(rest.substr(4, size));
    rest.remove_prefix(4 + size);
    *longest = std::max(*longest, size);
  }
  std::string out;
  for (std::string_view item : items) out.append(item).append(*longest - item.size(), '\0');
  return out;
}

std::string WriteArray(std::string_view descr, const Shape& shape, std::string_view data) {
  std::string dims;
  for (int64_t dim : shape) StrAppend(&dims, dims.empty() ? "" : ", ", dim);
  if (shape.size() == 1) dims.push_back(',');
  std::string header = StrCat("{'descr': '", descr, "', 'fortran_order': False, 'shape': (", dims, "), }");
  const size_t prefix = kMagic.size() + 4;
  header.append(kAlignment - 1 - (prefix + header.size()) % kAlignment, ' ');
  header.push_back('\n');
  std::string out(kMagic);
  out.append({'\x01', '\0', static_cast<char>(header.size()), static_cast<char>(header.size() >> 8)});
  return out.append(header).append(data);
}

// Where the header's text lies in the file.
absl::StatusOr<std::string_view> HeaderText(std::string_view bytes, size_t* data_begin) {
  if (bytes.substr(0, kMagic.size()) != kMagic)
    return InvalidArgument("not a .npy file: does not begin with \\x93NUMPY");
  if (bytes.size() < 12) return InvalidArgument("ends at byte ", bytes.size(), ", within the header");
  const int version = static_cast<unsigned char>(bytes[6]);
  if (version < 1 || version > 3) return InvalidArgument("version ", version, " of the .npy format is not known");
  const size_t length_size = version == 1 ? 2 : 4, begin = 8 + length_size;
  const size_t length = LittleEndian(bytes.substr(8, length_size));
  if (length > bytes.size() - begin) {
    return InvalidArgument("ends at byte ", bytes.size(), ", the header goes to byte ", begin + length);
  }
  *data_begin = begin + length;
  return bytes.substr(begin, length);
}

}  // namespace

absl::StatusOr<Tensor> ReadNpy(std::string_view bytes) {
  size_t begin = 0;
  TANDEM_ASSIGN_OR_RETURN(std::string_view text, HeaderText(bytes, &begin));
  TANDEM_ASSIGN_OR_RETURN(NpyHeader header, ParseNpyHeader(text));
  const char order = header.descr.empty() ? '?' : header.descr[0];
  const DType dtype = TypeOf(std::string_view(header.descr).substr(std::min<size_t>(1, header.descr.size())));
  if (dtype == DType::kInvalid || std::string_view("<>|=").find(order) == std::string_view::npos) {
    return InvalidArgument("element type '", header.descr,
                           "' is not supported; use floats (2, 4, 8 bytes), integers or bool");
  }
  TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(header.shape));
  const size_t element = ByteSize(dtype), there = bytes.size() - begin;
  if (static_cast<size_t>(count) > there / element || static_cast<size_t>(count) * element != there) {
    return InvalidArgument("has ", there, " bytes of data after byte ", begin, ", shape ", ToString(header.shape),
                           " of type '", header.descr, "' needs ", count, " elements of ", element);
  }
  return CatchToStatus("read .npy", [&]() -> absl::StatusOr<Tensor> {
    Tensor tensor{"", dtype, header.shape, AlignedBuffer(there)};
    char* out = reinterpret_cast<char*>(tensor.buffer.data());
    if (header.fortran_order) {
      FromFortranOrder(bytes.data() + begin, header.shape, element, out);
    } else if (there > 0) {
      memcpy(out, bytes.data() + begin, there);
    }
    if (order == '>') {
      for (size_t at = 0; at < there; at += element) std::reverse(out + at, out + at + element);
    }
    return tensor;
  });
}

std::string WriteNpy(const Tensor& tensor) {
  if (tensor.dtype == DType::kBFloat16) return WriteNpy(WidenBFloat16(tensor));
  if (tensor.dtype == DType::kString) {
    size_t longest = 0;
    std::string padded = PadStrings(tensor, &longest);
    return WriteArray(StrCat("|S", longest), tensor.shape, padded);
  }
  return WriteArray(StrCat(ByteSize(tensor.dtype) == 1 ? "|" : "<", CodeOf(tensor.dtype)), tensor.shape,
                    tensor.bytes());
}

}  // namespace tandem::data
