#include "api/http/access.h"

#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "base/files.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

constexpr size_t kShortestSecret = 16;
constexpr int64_t kLargestTokenFile = 1 << 20;

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return tolower(x) == tolower(y); });
}

std::string_view Trim(std::string_view text) {
  size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

// "localhost:8000" -> "localhost", "[::1]:8000" -> "[::1]".
std::string_view WithoutPort(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

// In a time that does not depend on where the texts differ.
bool SameSecret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

absl::StatusOr<Token> ParseTokenLine(std::string_view where, std::string_view line) {
  size_t colon = line.find(':');
  Token token;
  token.name = Trim(line.substr(0, colon));
  if (colon != std::string_view::npos) token.secret = Trim(line.substr(colon + 1));
  if (token.name.empty() || token.secret.empty()) return InvalidArgument(where, ": must be \"name:secret\"");
  if (token.secret.size() < kShortestSecret) {
    return InvalidArgument(where, ": the secret of '", token.name, "' has ", token.secret.size(),
                           " characters, must have ", kShortestSecret, " or more");
  }
  return token;
}

}  // namespace

absl::StatusOr<std::vector<Token>> ReadTokenFile(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, StrCat("token file '", path, "'"));
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return FailedPrecondition("token file '", path, "' may be read by others than its owner; run chmod 600 ", path);
  }
  TANDEM_ASSIGN_OR_RETURN(std::string text, ReadFile(path, kLargestTokenFile));
  std::vector<Token> tokens;
  int line_number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    ++line_number;
    line = Trim(line);
    if (line.empty() || line[0] == '#') continue;
    TANDEM_ASSIGN_OR_RETURN(Token token, ParseTokenLine(StrCat(path, " line ", line_number), line));
    tokens.push_back(std::move(token));
  }
  if (tokens.empty()) return InvalidArgument("token file '", path, "' holds no token; write name:secret lines into it");
  return tokens;
}

absl::StatusOr<AccessPolicy> AccessPolicy::Create(std::string_view bound_host, const Endpoint& bound,
                                                  const std::vector<Token>& tokens) {
  AccessPolicy policy;
  policy.bound_host_ = bound.family == AF_INET6 ? StrCat("[", bound_host, "]") : std::string(bound_host);
  policy.loopback_ = bound.IsLoopback();
  policy.tokens_ = tokens;
  if (!policy.loopback_ && tokens.empty()) {
    return FailedPrecondition("listening on ", bound_host, " needs tokens, since everybody who reaches that address ",
                              "could manage this server: give --token-file, or listen on 127.0.0.1");
  }
  return policy;
}

absl::Status AccessPolicy::CheckHeaders(std::string_view host, int host_count, int http_version,
                                        std::string_view origin, bool has_origin) const {
  if (host_count > 1) return InvalidArgument("the request has ", host_count, " Host headers");
  if (host_count == 0 && http_version >= 11) return InvalidArgument("the request has no Host header");
  if (has_origin &&
      !(EqualsIgnoringCase(origin, StrCat("http://", host)) || EqualsIgnoringCase(origin, StrCat("https://", host)))) {
    return PermissionDenied("Origin '", origin, "' is another site than Host '", host, "'");
  }
  // Elsewhere than on loopback the token protects, and names from outside (DNS, proxies) cannot be listed.
  if (!loopback_ || host_count == 0) return absl::OkStatus();
  std::string_view name = WithoutPort(host);
  for (std::string_view good : {std::string_view("localhost"), std::string_view("127.0.0.1"), std::string_view("[::1]"),
                                std::string_view(bound_host_)}) {
    if (EqualsIgnoringCase(name, good)) return absl::OkStatus();
  }
  return PermissionDenied("Host '", host, "' is not this server; use localhost or 127.0.0.1");
}

absl::Status AccessPolicy::CheckToken(std::string_view authorization, Need need, Caller* caller) const {
  constexpr std::string_view kScheme = "Bearer ";
  if (authorization.size() > kScheme.size() && !tokens_.empty() &&
      EqualsIgnoringCase(authorization.substr(0, kScheme.size()), kScheme)) {
    std::string_view secret = Trim(authorization.substr(kScheme.size()));
    for (const Token& token : tokens_) {
      if (!SameSecret(secret, token.secret)) continue;
      caller->name = token.name;
      caller->may_manage = true;
      return absl::OkStatus();
    }
    return Unauthenticated("the token is not one of this server's");
  }
  if (loopback_ || need == Need::kNothing) return absl::OkStatus();
  return Unauthenticated("this server needs a token: send \"Authorization: Bearer SECRET\"");
}

absl::Status AccessPolicy::CheckManage(const Endpoint& peer, const Endpoint& local, Caller* caller) const {
  if (caller->may_manage) return absl::OkStatus();
  std::optional<uid_t> uid = UidOfPeer(peer, local);
  if (!uid.has_value()) return PermissionDenied("cannot tell which user owns the connection from ", peer.ToText());
  caller->name = UserName(*uid);
  caller->user_id = *uid;
  caller->may_manage = *uid == 0 || *uid == geteuid();
  if (caller->may_manage) return absl::OkStatus();
  return PermissionDenied("user '", caller->name, "' may predict but not manage: only '", UserName(geteuid()),
                          "' and root may");
}

}  // namespace tandem::api::http
