#include "api/http/peer.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <memory>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/files.h"
#include "base/strings.h"

namespace tandem::api::http {
namespace {

constexpr int kListenState = 10;  // TCP_LISTEN in /proc/net/tcp

struct TcpRow {
  std::string local, remote;  // "0100007F:1F40"
  int state = 0;
  uid_t uid = 0;
  uint64_t inode = 0;
};

// The rows of /proc/net/tcp or tcp6.
std::vector<TcpRow> ReadTcpTable(const char* path) {
  std::vector<TcpRow> rows;
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string slot, state, queues, timer, retransmits, uid, timeout;
    TcpRow row;
    if (!(words >> slot >> row.local >> row.remote >> state >> queues >> timer >> retransmits >> row.uid >> timeout >>
          row.inode)) {
      continue;
    }
    row.state = static_cast<int>(strtol(state.c_str(), nullptr, 16));
    rows.push_back(std::move(row));
  }
  return rows;
}

// As /proc/net/tcp writes it: each 32-bit word in the machine's byte order, in hex.
std::string ProcText(const Endpoint& endpoint) {
  std::string text;
  char piece[16];
  for (int i = 0; i < (endpoint.family == AF_INET ? 4 : 16); i += 4) {
    uint32_t word;
    memcpy(&word, endpoint.address + i, 4);
    snprintf(piece, sizeof piece, "%08X", word);
    text += piece;
  }
  snprintf(piece, sizeof piece, ":%04X", endpoint.port);
  return text + piece;
}

// An IPv4 address as IPv6 sockets show it, ::ffff:a.b.c.d.
Endpoint Mapped(const Endpoint& endpoint) {
  Endpoint mapped;
  mapped.family = AF_INET6;
  mapped.port = endpoint.port;
  mapped.address[10] = mapped.address[11] = 0xff;
  memcpy(mapped.address + 12, endpoint.address, 4);
  return mapped;
}

std::optional<uid_t> UidFromTable(const char* path, const Endpoint& peer, const Endpoint& local) {
  std::string peer_text = ProcText(peer), local_text = ProcText(local);
  for (const TcpRow& row : ReadTcpTable(path)) {
    if (row.local != peer_text || row.remote != local_text) continue;
    if (row.inode != 0) return row.uid;  // a socket that its process has closed says root, whosever it was
  }
  return std::nullopt;
}

struct DiagQuery {
  nlmsghdr header;
  inet_diag_req_v2 request;
};

DiagQuery MakeQuery(const Endpoint& peer, const Endpoint& local) {
  DiagQuery query = {};
  query.header.nlmsg_len = sizeof query;
  query.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  query.header.nlmsg_flags = NLM_F_REQUEST;
  query.request.sdiag_family = peer.family;
  query.request.sdiag_protocol = IPPROTO_TCP;
  query.request.idiag_states = ~0u;
  memcpy(query.request.id.idiag_src, peer.address, sizeof peer.address);
  memcpy(query.request.id.idiag_dst, local.address, sizeof local.address);
  query.request.id.idiag_sport = htons(peer.port);
  query.request.id.idiag_dport = htons(local.port);
  query.request.id.idiag_cookie[0] = query.request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return query;
}

std::optional<uid_t> UidFromNetlink(const Endpoint& peer, const Endpoint& local) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd.valid()) return std::nullopt;
  timeval limit = {.tv_sec = 1, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  DiagQuery query = MakeQuery(peer, local);
  sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  if (sendto(fd.get(), &query, sizeof query, 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel) < 0) {
    return std::nullopt;
  }
  alignas(nlmsghdr) std::array<char, 4096> answer;
  ssize_t size = recv(fd.get(), answer.data(), answer.size(), 0);
  if (size < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(inet_diag_msg)))) return std::nullopt;
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
  if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return std::nullopt;
  const auto* message = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  // The kernel falls back to a listening socket when the exact one is gone: that one is not the peer.
  if (message->id.idiag_sport != htons(peer.port) || message->id.idiag_dport != htons(local.port)) return std::nullopt;
  if (message->idiag_inode == 0) return std::nullopt;  // closed by its process: the kernel says root, whosever it was
  return message->idiag_uid;
}

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

bool HoldsSocket(const std::string& process_folder, const std::string& wanted) {
  std::string folder_path = process_folder + "/fd";
  Folder folder(opendir(folder_path.c_str()));
  if (folder == nullptr) return false;
  while (dirent* entry = readdir(folder.get())) {
    char target[64];
    ssize_t n = readlink((folder_path + "/" + entry->d_name).c_str(), target, sizeof target);
    if (n > 0 && std::string_view(target, n) == wanted) return true;
  }
  return false;
}

// "process 123 (nginx)", or "" when it is not visible.
std::string ProcessWithSocket(uint64_t inode) {
  std::string wanted = StrCat("socket:[", inode, "]");
  Folder proc(opendir("/proc"));
  if (proc == nullptr) return "";
  while (dirent* entry = readdir(proc.get())) {
    std::string_view pid = entry->d_name;
    if (pid.find_first_not_of("0123456789") != std::string_view::npos) continue;
    std::string folder = StrCat("/proc/", pid);
    if (!HoldsSocket(folder, wanted)) continue;
    std::string command;
    std::ifstream comm(folder + "/comm");
    std::getline(comm, command);
    return StrCat("process ", pid, " (", command, ")");
  }
  return "";
}

}  // namespace

bool Endpoint::IsLoopback() const {
  if (family == AF_INET) return address[0] == 127;
  static constexpr unsigned char kLoopback6[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return memcmp(address, kLoopback6, sizeof kLoopback6) == 0;
}

std::string Endpoint::ToText() const {
  char text[INET6_ADDRSTRLEN] = "?";
  inet_ntop(family, address, text, sizeof text);
  return family == AF_INET ? StrCat(text, ":", port) : StrCat("[", text, "]:", port);
}

Endpoint EndpointOf(const sockaddr_storage& address) {
  Endpoint endpoint;
  if (address.ss_family == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(address);
    endpoint.family = AF_INET6;
    memcpy(endpoint.address, &in6.sin6_addr, 16);
    endpoint.port = ntohs(in6.sin6_port);
    if (!IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) return endpoint;
    endpoint.family = AF_INET;
    memcpy(endpoint.address, in6.sin6_addr.s6_addr + 12, 4);
    return endpoint;
  }
  const auto& in = reinterpret_cast<const sockaddr_in&>(address);
  memcpy(endpoint.address, &in.sin_addr, 4);
  endpoint.port = ntohs(in.sin_port);
  return endpoint;
}

std::optional<uid_t> UidFromProc(const Endpoint& peer, const Endpoint& local) {
  if (peer.family == AF_INET6) return UidFromTable("/proc/net/tcp6", peer, local);
  if (auto uid = UidFromTable("/proc/net/tcp", peer, local)) return uid;
  return UidFromTable("/proc/net/tcp6", Mapped(peer), Mapped(local));
}

std::optional<uid_t> UidOfPeer(const Endpoint& peer, const Endpoint& local) {
  if (auto uid = UidFromNetlink(peer, local)) return uid;
  return UidFromProc(peer, local);
}

std::string HolderOfPort(uint16_t port) {
  char ending[8];
  snprintf(ending, sizeof ending, ":%04X", port);
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    for (const TcpRow& row : ReadTcpTable(table)) {
      if (row.state != kListenState || !row.local.ends_with(ending)) continue;
      std::string process = ProcessWithSocket(row.inode);
      return process.empty() ? StrCat("a process of user '", UserName(row.uid), "'") : process;
    }
  }
  return "another process";
}

std::string UserName(uid_t uid) {
  passwd entry;
  passwd* found = nullptr;
  std::array<char, 4096> buffer;
  if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) return found->pw_name;
  return StrCat(uid);
}

}  // namespace tandem::api::http
