#pragma once
// Answers kept by what was asked, for models that say so.
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "serving/pi_mutex.h"
#include "serving/serving.h"

namespace tandem::serving {

// The least recently used are dropped when the bytes are used up. Thread-safe: the mutex is the data plane's, and no
// tensor is copied or freed under it.
class ResponseCache {
 public:
  using Answer = std::shared_ptr<const std::vector<Tensor>>;

  explicit ResponseCache(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  // SHA-256 of the version that was loaded (a number that no other load has) and the inputs with their types and
  // shapes.
  static std::string KeyOf(uint64_t load, const Request& request);
  Answer Find(const std::string& key);  // null if there is none
  // Keeps a copy; an answer that is too large for the cache is not kept.
  void Insert(const std::string& key, const std::vector<Tensor>& outputs);
  int64_t bytes() const;

 private:
  struct Entry {
    std::string key;
    Answer answer;
    int64_t bytes = 0;
  };
  const int64_t limit_bytes_;
  mutable PiMutex mutex_;
  std::list<Entry> entries_;                                            // the last used first; guarded by mutex_
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;  // guarded by mutex_
  int64_t bytes_ = 0;                                                   // guarded by mutex_
};

}  // namespace tandem::serving
