#include "api/http/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/files.h"
#include "base/status.h"

namespace tandem::api::http {

absl::Status Spool::Append(const std::string& folder, std::string_view piece, PacedWriter* pace) {
  if (!fd_.valid()) {
    TANDEM_RETURN_IF_ERROR(MakeFolders(folder));
    std::string path = folder + "/upload-XXXXXX";
    fd_ = UniqueFd(mkostemp(path.data(), O_CLOEXEC));
    if (!fd_.valid()) return ErrnoStatus(errno, StrCat("make a file for the upload in '", folder, "'"));
    path_ = path;
  }
  const absl::Status written = pace == nullptr ? WriteAll(fd_.get(), piece) : pace->Write(piece, fd_.get());
  return Annotate(written, StrCat("upload to '", path_, "'"));
}

void Spool::Remove() {
  fd_.Reset();
  if (!path_.empty()) unlink(path_.c_str());
  path_.clear();
}

}  // namespace tandem::api::http
