#include "api/v2/shared_memory.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <limits>
#include <map>
#include <mutex>
#include <utility>

#include "api/v2/bus_guard.h"
#include "base/fd.h"
#include "base/status.h"
#include "telemetry/published.h"

namespace tandem::api::v2 {

namespace {

// Pages that are unmapped with it.
struct MappedPages {
  MappedPages(void* begin, size_t size) : begin(begin), size(size) {}
  MappedPages(MappedPages&& other) noexcept : begin(std::exchange(other.begin, nullptr)), size(other.size) {}
  ~MappedPages() {
    if (begin != nullptr) munmap(begin, size);
  }
  void* begin;
  size_t size;
};

}  // namespace

// One mapped region. Immutable; unmapped with its last holder.
class SharedMemory::Mapping {
 public:
  static absl::StatusOr<std::shared_ptr<const Mapping>> Create(const Region& region, std::optional<uid_t> user);
  Mapping(const Region& region, UniqueFd fd, uid_t owner, MappedPages pages, BusGuard guard)
      : region(region), owner(owner), fd_(std::move(fd)), pages_(std::move(pages)), guard_(std::move(guard)) {}

  absl::StatusOr<Lease> Piece(size_t offset, size_t byte_size, std::shared_ptr<const Mapping> self) const;
  bool lost() const { return guard_.hit(); }

  const Region region;
  const uid_t owner;

 private:
  const UniqueFd fd_;
  const MappedPages pages_;
  const BusGuard guard_;  // behind the pages, so that it ends before they are gone
};

namespace {

constexpr size_t kLongestName = 255;

absl::Status CheckRegion(const SharedMemory::Region& region) {
  if (region.name.empty()) return InvalidArgument("a region of shared memory needs a name");
  if (region.name.size() > kLongestName) {
    return InvalidArgument("a region's name has ", region.name.size(), " bytes, at most ", kLongestName, " are taken");
  }
  const std::string_view key = region.key;
  const std::string_view object = key.empty() ? key : key.substr(1);
  if (!key.starts_with('/') || object.empty() || object.size() > kLongestName || object == "." || object == ".." ||
      object.find('/') != object.npos || object.find('\0') != object.npos) {
    return InvalidArgument("region '", region.name,
                           "': key must be the name of a POSIX shared memory object: '/', then 1 to ", kLongestName,
                           " bytes without another '/'");
  }
  if (region.byte_size == 0) return InvalidArgument("region '", region.name, "': byte_size must be 1 or more");
  constexpr size_t kFarthest = std::numeric_limits<off_t>::max();
  if (region.offset > kFarthest || region.byte_size > kFarthest - region.offset) {
    return InvalidArgument("region '", region.name, "': offset ", region.offset, " and byte_size ", region.byte_size,
                           " are too large");
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenObject(const SharedMemory::Region& region) {
  UniqueFd fd(shm_open(region.key.c_str(), O_RDWR | O_CLOEXEC, 0));
  if (fd.valid()) return fd;
  const int error = errno;
  if (error == EMFILE || error == ENFILE) return ErrnoStatus(error, StrCat("open shared memory '", region.key, "'"));
  return InvalidArgument("region '", region.name, "': cannot open shared memory '", region.key, "' (", strerror(error),
                         error == ENOENT ? "); create it before it is registered"
                                         : "); it must be readable and writable for the server's user");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SharedMemory::Mapping>> SharedMemory::Mapping::Create(const Region& region,
                                                                                           std::optional<uid_t> user) {
  TANDEM_ASSIGN_OR_RETURN(UniqueFd fd, OpenObject(region));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat shared memory '", region.key, "'"));
  if (!S_ISREG(info.st_mode)) {
    return InvalidArgument("region '", region.name, "': '", region.key, "' is no shared memory object");
  }
  if (user.has_value() && info.st_uid != *user) {
    return PermissionDenied("region '", region.name, "': shared memory '", region.key,
                            "' belongs to another user than the one who asks");
  }
  const size_t end = region.offset + region.byte_size;
  if (static_cast<size_t>(info.st_size) < end) {
    return InvalidArgument("region '", region.name, "': shared memory '", region.key, "' has ", info.st_size,
                           " bytes, but offset ", region.offset, " and byte_size ", region.byte_size, " need ", end);
  }
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = region.offset / page * page;
  void* base = mmap(nullptr, end - first, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), static_cast<off_t>(first));
  if (base == MAP_FAILED) return ErrnoStatus(errno, StrCat("map shared memory '", region.key, "'"));
  MappedPages pages(base, end - first);
  TANDEM_ASSIGN_OR_RETURN(BusGuard guard, BusGuard::Create(base, end - first));
  return std::make_shared<const Mapping>(region, std::move(fd), info.st_uid, std::move(pages), std::move(guard));
}

absl::StatusOr<SharedMemory::Lease> SharedMemory::Mapping::Piece(size_t offset, size_t byte_size,
                                                                 std::shared_ptr<const Mapping> self) const {
  if (offset > region.byte_size || byte_size > region.byte_size - offset) {
    return InvalidArgument("region '", region.name, "' has ", region.byte_size, " bytes, so ", byte_size,
                           " bytes at offset ", offset, " do not lie in it");
  }
  struct stat info;
  if (lost() || fstat(fd_.get(), &info) != 0 || static_cast<size_t>(info.st_size) < region.offset + region.byte_size) {
    return InvalidArgument("region '", region.name, "': shared memory '", region.key,
                           "' is shorter than when it was registered; unregister it, and register it anew");
  }
  // The region ends where the pages do.
  auto* data = static_cast<std::byte*>(pages_.begin) + (pages_.size - region.byte_size) + offset;
  return Lease{data, byte_size, std::move(self)};
}

bool SharedMemory::Lease::lost() const { return keep != nullptr && keep->lost(); }

class SharedMemory::Impl {
 public:
  using Map = std::map<std::string, std::shared_ptr<const Mapping>, std::less<>>;

  std::shared_ptr<const Mapping> Find(std::string_view name) const {
    return published_.Read([name](const Map& regions) {
      auto found = regions.find(name);
      return found == regions.end() ? nullptr : found->second;
    });
  }

  absl::Status Register(const Region& region, std::optional<uid_t> user) {
    std::lock_guard lock(mutex_);
    if (regions_.contains(region.name)) {
      return AlreadyExists("region '", region.name, "' is registered already; unregister it first");
    }
    TANDEM_ASSIGN_OR_RETURN(regions_[region.name], Mapping::Create(region, user));
    published_.Replace(std::make_unique<const Map>(regions_));
    return absl::OkStatus();
  }

  absl::Status Unregister(std::string_view name, std::optional<uid_t> user) {
    std::lock_guard lock(mutex_);
    auto found = regions_.find(name);
    if (found != regions_.end() && user.has_value() && found->second->owner != *user) {
      return PermissionDenied("region '", name, "' is another user's");
    }
    std::erase_if(regions_, [&](const auto& entry) {
      return (name.empty() || entry.first == name) && (!user.has_value() || entry.second->owner == *user);
    });
    published_.Replace(std::make_unique<const Map>(regions_));
    return absl::OkStatus();
  }

  std::vector<Region> List() const {
    std::lock_guard lock(mutex_);
    std::vector<Region> all;
    for (const auto& [name, mapping] : regions_) all.push_back(mapping->region);
    return all;
  }

 private:
  mutable std::mutex mutex_;  // control threads only
  Map regions_;               // guarded by mutex_
  Published<Map> published_{std::make_unique<const Map>()};
};

SharedMemory::SharedMemory() : impl_(std::make_unique<Impl>()) {}
SharedMemory::~SharedMemory() = default;

absl::StatusOr<std::optional<uid_t>> SharedMemory::UserOf(const Caller& caller) {
  if (!caller.local) return PermissionDenied("shared memory is for callers on the server's own machine");
  if (caller.may_manage) return std::optional<uid_t>();
  if (!caller.user_id.has_value()) {
    return PermissionDenied("cannot tell which user asks, and shared memory belongs to users");
  }
  return std::optional<uid_t>(*caller.user_id);
}

absl::Status SharedMemory::Register(const Region& region, std::optional<uid_t> user) {
  TANDEM_RETURN_IF_ERROR(CheckRegion(region));
  return impl_->Register(region, user);
}

absl::Status SharedMemory::Unregister(std::string_view name, std::optional<uid_t> user) {
  return impl_->Unregister(name, user);
}

absl::StatusOr<std::vector<SharedMemory::Region>> SharedMemory::Status(std::string_view name) const {
  if (name.empty()) return impl_->List();
  std::shared_ptr<const Mapping> mapping = impl_->Find(name);
  if (mapping == nullptr) return NotFound("region '", name, "' is not registered");
  return std::vector<Region>{mapping->region};
}

absl::StatusOr<SharedMemory::Lease> SharedMemory::Find(std::string_view region, size_t offset, size_t byte_size) const {
  std::shared_ptr<const Mapping> mapping = impl_->Find(region);
  if (mapping == nullptr) {
    return NotFound("region '", region, "' of shared memory is not registered; register it before it is used");
  }
  const Mapping* piece_of = mapping.get();
  return piece_of->Piece(offset, byte_size, std::move(mapping));
}

}  // namespace tandem::api::v2
