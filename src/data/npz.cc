#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "data/dataset.h"
#include "data/inflate.h"

// A zip file ends with a directory that says where each member lies (PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12,
// 4.3.16). Only what NumPy and zip programs write is read: stored or deflated, below 4 GB.
namespace tandem::data {
namespace {

constexpr uint32_t kLocalMark = 0x04034b50, kDirectoryMark = 0x02014b50, kEndMark = 0x06054b50;
constexpr size_t kLocalSize = 30, kDirectorySize = 46, kEndSize = 22;
constexpr uint16_t kStored = 0, kDeflated = 8;
constexpr uint16_t kDosDate1980 = 0x21;  // the same arrays make the same bytes
constexpr std::string_view kSuffix = ".npy";

// REQUIRES: at + N <= bytes.size().
uint32_t Read16(std::string_view bytes, size_t at) {
  return static_cast<unsigned char>(bytes[at]) | static_cast<unsigned char>(bytes[at + 1]) << 8;
}
uint32_t Read32(std::string_view bytes, size_t at) { return Read16(bytes, at) | Read16(bytes, at + 2) << 16; }

void Put(std::string* out, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

uint32_t Crc(std::string_view data) {
  return static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(data.data()), data.size()));
}

struct Member {
  std::string name;
  uint32_t method, crc, packed, size, local;
};

absl::StatusOr<size_t> FindEnd(std::string_view bytes) {
  constexpr size_t kMaxComment = 65535;
  if (bytes.size() >= kEndSize) {
    const size_t last = bytes.size() - kEndSize, first = last > kMaxComment ? last - kMaxComment : 0;
    for (size_t at = last + 1; at-- > first;) {
      if (Read32(bytes, at) == kEndMark) return at;
    }
  }
  return InvalidArgument("not a .npz file: no zip directory at its end (", bytes.size(), " bytes); is it cut off?");
}

// Reads the directory entry at *at and moves on.
absl::StatusOr<Member> ReadMember(std::string_view bytes, size_t* at) {
  if (*at > bytes.size() || bytes.size() - *at < kDirectorySize || Read32(bytes, *at) != kDirectoryMark) {
    return InvalidArgument("the zip directory breaks at byte ", *at);
  }
  const size_t begin = *at, name_size = Read16(bytes, begin + 28);
  const size_t next = begin + kDirectorySize + name_size + Read16(bytes, begin + 30) + Read16(bytes, begin + 32);
  if (next > bytes.size()) return InvalidArgument("the zip directory breaks at byte ", begin);
  Member member{std::string(bytes.substr(begin + kDirectorySize, name_size)),
                Read16(bytes, begin + 10),
                Read32(bytes, begin + 16),
                Read32(bytes, begin + 20),
                Read32(bytes, begin + 24),
                Read32(bytes, begin + 42)};
  if ((Read16(bytes, begin + 8) & 1) != 0) return InvalidArgument("'", member.name, "' is encrypted");
  if (member.method != kStored && member.method != kDeflated) {
    return InvalidArgument("'", member.name, "' is packed by method ", member.method, "; only 0 and 8 are supported");
  }
  if (member.packed == UINT32_MAX || member.size == UINT32_MAX || member.local == UINT32_MAX) {
    return InvalidArgument("'", member.name, "' is 4 GB or larger; split it");
  }
  *at = next;
  return member;
}

absl::StatusOr<std::string> Unpack(std::string_view bytes, const Member& member) {
  const size_t local = member.local;
  if (local > bytes.size() || bytes.size() - local < kLocalSize || Read32(bytes, local) != kLocalMark) {
    return InvalidArgument("no member begins at byte ", local);
  }
  const size_t begin = local + kLocalSize + Read16(bytes, local + 26) + Read16(bytes, local + 28);
  if (begin > bytes.size() || member.packed > bytes.size() - begin) {
    return InvalidArgument("ends at byte ", bytes.size(), ", the member goes to byte ", begin + member.packed);
  }
  std::string_view packed = bytes.substr(begin, member.packed);
  std::string data(packed);
  if (member.method == kDeflated) {
    TANDEM_ASSIGN_OR_RETURN(data, Inflate(packed, Compression::kDeflate, size_t{member.size} + 1));
  }
  if (data.size() != member.size) {
    return InvalidArgument("the directory promises ", member.size, " bytes, ", data.size(), " came");
  }
  if (Crc(data) != member.crc) return InvalidArgument("its checksum is wrong: the file is damaged");
  return data;
}

absl::StatusOr<std::vector<Member>> ReadDirectory(std::string_view bytes) {
  TANDEM_ASSIGN_OR_RETURN(const size_t end, FindEnd(bytes));
  const size_t count = Read16(bytes, end + 10);
  size_t at = Read32(bytes, end + 16), packed = 0;
  std::vector<Member> members;
  for (size_t i = 0; i < count; ++i) {
    TANDEM_ASSIGN_OR_RETURN(Member member, ReadMember(bytes, &at));
    // Members that share their bytes would let a small file grow without bound.
    packed += member.packed;
    if (packed > bytes.size()) return InvalidArgument("'", member.name, "' overlaps another member");
    members.push_back(std::move(member));
  }
  return members;
}

}  // namespace

absl::StatusOr<std::vector<Tensor>> ReadNpz(std::string_view bytes) {
  return CatchToStatus("read .npz", [&]() -> absl::StatusOr<std::vector<Tensor>> {
    TANDEM_ASSIGN_OR_RETURN(std::vector<Member> members, ReadDirectory(bytes));
    std::vector<Tensor> tensors;
    for (const Member& member : members) {
      absl::StatusOr<std::string> data = Unpack(bytes, member);
      if (!data.ok()) return Annotate(data.status(), StrCat("'", member.name, "'"));
      absl::StatusOr<Tensor> tensor = ReadNpy(*data);
      if (!tensor.ok()) return Annotate(tensor.status(), StrCat("'", member.name, "'"));
      std::string_view name = member.name;
      if (name.ends_with(kSuffix)) name.remove_suffix(kSuffix.size());
      tensor->name = name;
      tensors.push_back(*std::move(tensor));
    }
    return tensors;
  });
}

std::string WriteNpz(const std::vector<Tensor>& tensors) {
  std::string out, directory;
  for (const Tensor& tensor : tensors) {
    const std::string name = tensor.name + std::string(kSuffix), data = WriteNpy(tensor);
    constexpr uint16_t kVersion = 20, kUtf8Names = 1 << 11;
    // What the local header and the directory have in common.
    std::string common;
    for (uint32_t half : {uint32_t{kVersion}, uint32_t{kUtf8Names}, uint32_t{kStored}, 0u, uint32_t{kDosDate1980}}) {
      Put(&common, half, 2);
    }
    const auto size = static_cast<uint32_t>(data.size());
    for (uint32_t word : {Crc(data), size, size}) Put(&common, word, 4);
    Put(&common, static_cast<uint32_t>(name.size()), 2);
    Put(&common, 0, 2);  // no extra field

    Put(&directory, kDirectoryMark, 4);
    Put(&directory, kVersion, 2);
    directory += common;
    directory.append(10, '\0');  // no comment, first disk, no attributes
    Put(&directory, static_cast<uint32_t>(out.size()), 4);
    directory += name;

    Put(&out, kLocalMark, 4);
    out += common;
    out += name;
    out += data;
  }
  const auto begin = static_cast<uint32_t>(out.size()), count = static_cast<uint32_t>(tensors.size());
  out += directory;
  Put(&out, kEndMark, 4);
  Put(&out, 0, 4);  // one disk
  Put(&out, count, 2);
  Put(&out, count, 2);
  Put(&out, static_cast<uint32_t>(directory.size()), 4);
  Put(&out, begin, 4);
  Put(&out, 0, 2);  // no comment
  return out;
}

}  // namespace tandem::data
