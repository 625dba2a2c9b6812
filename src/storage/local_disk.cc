#include "storage/local_disk.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <sstream>

#include "base/fd.h"
#include "base/files.h"
#include "base/status.h"

namespace tandem::storage {
namespace {

constexpr int64_t kFuseMagic = 0x65735546;

struct NetworkMagic {
  int64_t magic;
  std::string_view name;
};
constexpr NetworkMagic kNetworkMagics[] = {
    {0x6969, "NFS"},      {0x517b, "SMB"},        {0xff534d42, "CIFS"}, {0xfe534d42, "SMB2"},  {0x01021997, "9P"},
    {0x5346414f, "AFS"},  {0x6b414653, "AFS"},    {0x73757245, "Coda"}, {0x00c36400, "Ceph"},  {0x0bd00bd0, "Lustre"},
    {0x47504653, "GPFS"}, {0x19830326, "BeeGFS"}, {0x01161970, "GFS2"}, {0x7461636f, "OCFS2"}, {0xaad7aaea, "PanFS"},
};
constexpr std::string_view kNetworkFuse[] = {"fuse.sshfs",   "fuse.s3fs",     "fuse.glusterfs", "fuse.rclone",
                                             "fuse.gcsfuse", "fuse.ceph",     "fuse.ceph-fuse", "fuse.juicefs",
                                             "fuse.davfs",   "fuse.smbnetfs", "fuse.goofys",    "fuse.curlftpfs",
                                             "fuse.JuiceFS", "fuse.mount-s3", "fuse.blobfuse",  "fuse.blobfuse2"};

// The type of the mount with device number `device`; "" if it is not listed.
std::string MountType(dev_t device) {
  absl::StatusOr<std::string> mounts = ReadFile("/proc/self/mountinfo");
  if (!mounts.ok()) return "";
  std::string wanted = StrCat(major(device), ":", minor(device));
  std::istringstream lines(*mounts);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, number, word, type;
    words >> id >> parent >> number;
    if (number != wanted) continue;
    // Optional fields end with "-"; the type follows.
    while (words >> word && word != "-") {
    }
    words >> type;
    return type;
  }
  return "";
}

}  // namespace

std::string_view NetworkFileSystem(int64_t magic, std::string_view fuse_type) {
  // The kernel sign-extends 32-bit numbers on some machines.
  int64_t unsigned_magic = magic & 0xffffffff;
  for (const NetworkMagic& known : kNetworkMagics) {
    if (known.magic == unsigned_magic) return known.name;
  }
  if (unsigned_magic != kFuseMagic) return "";
  for (std::string_view known : kNetworkFuse) {
    if (known == fuse_type) return known;
  }
  return "";
}

absl::Status CheckLocalDisk(const std::filesystem::path& folder) {
  struct statfs info;
  struct stat status;
  if (statfs(folder.c_str(), &info) != 0 || stat(folder.c_str(), &status) != 0) {
    return ErrnoStatus(errno, StrCat("look at '", folder.string(), "'"));
  }
  std::string_view network = NetworkFileSystem(info.f_type, MountType(status.st_dev));
  if (network.empty()) return absl::OkStatus();
  return FailedPrecondition("'", folder.string(), "' lies on a network file system (", network,
                            "), on which the database could be damaged; put --data on a local disk");
}

}  // namespace tandem::storage
