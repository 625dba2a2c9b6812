#include "tandem/external_data.h"

#include "base/status.h"
#include "client/transport.h"

namespace tandem::cli {

absl::StatusOr<bool> HasExternalData(const std::string& file) {
  static constexpr std::string_view kKey = "\x0a\x08location";  // field 1, 8 bytes
  TANDEM_ASSIGN_OR_RETURN(auto source, client::OpenFileSource(file));
  std::string window;
  std::string piece(1 << 20, '\0');
  while (true) {
    TANDEM_ASSIGN_OR_RETURN(size_t got, source->Read(piece.data(), piece.size()));
    if (got == 0) return false;
    window.append(piece, 0, got);
    if (window.find(kKey) != window.npos) return true;
    // The key may lie across two pieces.
    window.erase(0, window.size() - std::min(window.size(), kKey.size() - 1));
  }
}

}  // namespace tandem::cli
