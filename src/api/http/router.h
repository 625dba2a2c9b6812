#pragma once
// The one list of all routes (router.cc), and the search in it.
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/http/request.h"

namespace tandem::api::http {

// Where a request is worked on.
enum class Plane {
  kInfer,   // on the connection's own data-plane thread
  kAtOnce,  // there too: what it reads takes no lock and no file, so that it waits for nobody who does; not logged
  kQuick,   // by the control pool
  kSlow,    // by the pool of those that may take seconds: deploys, releases, a new policy
  kWait,    // by the pool of those that may take as long as somebody else wants: long polls, copies at a disk rate
  kUpload,  // as kWait, its body spooled to a file first
};
// Who may.
enum class Need {
  kNothing,  // everybody, even without a token
  kUse,      // everybody on this machine; elsewhere a token
  kLocal,    // as kUse, and the handler is told which local user asks, if that is known
  kManage,   // the daemon's user and root; elsewhere a token
};

// How requests of Plane::kInfer and their answers are written.
enum class Format { kV2, kTfServing };

struct Route {
  Verb verb;
  std::string_view
      pattern;  // "/v2/models/{model}/infer"; a literal may follow a parameter: "/v1/models/{model}:predict"
  Plane plane;
  Need need;
  Handler handler;  // null for Plane::kInfer
  bool on_metrics_port = false;
  Format format = Format::kV2;
};

std::span<const Route> Routes();

// Immutable, thread-safe.
class Router {
 public:
  Router();

  struct Found {
    const Route* route = nullptr;  // null: no such route
    std::string allow;             // verbs that the path has, when the verb was wrong
    bool bad_encoding = false;
  };
  // First match wins. `path` without query.
  Found Find(Verb verb, std::string_view path, bool metrics_port, PathParams* params) const;

 private:
  struct Compiled {
    const Route* route;
    std::vector<std::string_view> segments;
  };
  std::vector<Compiled> compiled_;
};

}  // namespace tandem::api::http
