#include "client/tar_source.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/fd.h"
#include "base/status.h"

namespace tandem::client {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlock = 512;
constexpr int64_t kMaxOctalSize = int64_t{1} << 33;  // what 11 octal digits hold

int64_t RoundUp(int64_t size) { return (size + kBlock - 1) / kBlock * kBlock; }

// One 512-byte header: offsets and widths are those of the ustar format.
std::string HeaderBlock(std::string_view name, int64_t size, char type) {
  std::string block(kBlock, '\0');
  auto put = [&block](size_t offset, std::string_view text) { std::copy(text.begin(), text.end(), &block[offset]); };
  put(0, name.substr(0, 100));
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(124, absl::StrFormat("%011o", size < kMaxOctalSize ? size : 0));
  put(136, "00000000000");
  put(148, "        ");
  block[156] = type;
  put(257, std::string_view("ustar\00000", 8));
  unsigned sum = 0;
  for (unsigned char c : block) sum += c;
  put(148, absl::StrFormat("%06o", sum));
  block[154] = '\0';
  return block;
}

// "LENGTH key=value\n", where LENGTH counts itself.
std::string PaxRecord(std::string_view key, std::string_view value) {
  size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (StrCat(length).size() + rest != length) length = StrCat(length).size() + rest;
  return StrCat(length, " ", key, "=", value, "\n");
}

// Everything in front of a file's data.
std::string Preamble(std::string_view name, int64_t size) {
  std::string records;
  if (name.size() > 100) records += PaxRecord("path", name);
  if (size >= kMaxOctalSize) records += PaxRecord("size", StrCat(size));
  std::string preamble;
  if (!records.empty()) {
    preamble = HeaderBlock("pax", static_cast<int64_t>(records.size()), 'x') + records;
    preamble.resize(RoundUp(static_cast<int64_t>(preamble.size())), '\0');
  }
  return preamble + HeaderBlock(name, size, '0');
}

struct Entry {
  std::string path, name;
  int64_t size = 0;
};

class TarSource final : public BodySource {
 public:
  explicit TarSource(std::vector<Entry> entries) : entries_(std::move(entries)) {
    for (const Entry& entry : entries_) {
      size_ += static_cast<int64_t>(Preamble(entry.name, entry.size).size()) + RoundUp(entry.size);
    }
    size_ += 2 * kBlock;
  }

  int64_t size() const override { return size_; }

  absl::StatusOr<size_t> Read(char* data, size_t capacity) override {
    while (text_.empty() && !file_) {
      if (next_ > entries_.size()) return 0;
      TANDEM_RETURN_IF_ERROR(Advance());
    }
    if (!text_.empty()) {
      size_t count = std::min(capacity, text_.size());
      std::memcpy(data, text_.data(), count);
      text_.erase(0, count);
      return count;
    }
    TANDEM_ASSIGN_OR_RETURN(size_t got, file_->Read(data, std::min<int64_t>(capacity, file_left_)));
    file_left_ -= static_cast<int64_t>(got);
    if (file_left_ == 0) EndFile();
    return got;
  }

 private:
  // Queues the next entry's header, or the two zero blocks that end the archive.
  absl::Status Advance() {
    if (next_ == entries_.size()) {
      text_.assign(2 * kBlock, '\0');
      ++next_;
      return absl::OkStatus();
    }
    const Entry& entry = entries_[next_++];
    text_ = Preamble(entry.name, entry.size);
    if (entry.size == 0) return absl::OkStatus();
    TANDEM_ASSIGN_OR_RETURN(file_, OpenFileSource(entry.path));
    file_left_ = entry.size;
    if (file_->size() != entry.size) {
      return OutOfRange("'", entry.path, "' had ", entry.size, " bytes and now has ", file_->size(),
                        ": it changed while it was sent");
    }
    return absl::OkStatus();
  }

  void EndFile() {
    file_.reset();
    int64_t size = entries_[next_ - 1].size;
    text_.assign(RoundUp(size) - size, '\0');
  }

  std::vector<Entry> entries_;
  int64_t size_ = 0;
  size_t next_ = 0;
  std::string text_;                  // bytes to give before those of file_
  std::unique_ptr<BodySource> file_;  // the entry being sent
  int64_t file_left_ = 0;
};

// Adds `folder`'s files, depth first. `seen` holds the real paths of the folders entered, against loops of links.
absl::Status Collect(const fs::path& folder, const std::string& prefix, std::set<fs::path>* seen,
                     std::vector<Entry>* entries) {
  std::error_code error;
  fs::path real = fs::canonical(folder, error);
  if (error) return ErrnoStatus(error.value(), StrCat("open folder '", folder.string(), "'"));
  if (!seen->insert(real).second) return absl::OkStatus();
  fs::directory_iterator iterator(folder, error);
  if (error) return ErrnoStatus(error.value(), StrCat("list folder '", folder.string(), "'"));
  for (; !error && iterator != fs::directory_iterator(); iterator.increment(error)) {
    const fs::path& path = iterator->path();
    std::string name = prefix + path.filename().string();
    std::error_code unknown;
    if (fs::is_directory(path, unknown)) {
      TANDEM_RETURN_IF_ERROR(Collect(path, name + "/", seen, entries));
    } else if (fs::is_regular_file(path, unknown)) {
      int64_t size = static_cast<int64_t>(fs::file_size(path, unknown));
      if (unknown) return ErrnoStatus(unknown.value(), StrCat("stat '", path.string(), "'"));
      entries->push_back({path.string(), name, size});
    }
  }
  return error ? ErrnoStatus(error.value(), StrCat("list folder '", folder.string(), "'")) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<BodySource>> OpenTarSource(const std::string& path) {
  std::vector<Entry> entries;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    std::set<fs::path> seen;
    TANDEM_RETURN_IF_ERROR(Collect(path, "", &seen, &entries));
    if (entries.empty()) return InvalidArgument("folder '", path, "' holds no files");
  } else {
    TANDEM_ASSIGN_OR_RETURN(auto file, OpenFileSource(path));
    entries.push_back({path, fs::path(path).filename().string(), file->size()});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return std::make_unique<TarSource>(std::move(entries));
}

}  // namespace tandem::client
