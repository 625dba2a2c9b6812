#include "serving/response_cache.h"

#include "base/files.h"
#include "serving/batch.h"

namespace tandem::serving {
namespace {

constexpr int64_t kEntryBytes = 512;  // what an entry takes beside its tensors

template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

std::string ResponseCache::KeyOf(uint64_t load, const Request& request) {
  Sha256 hash;
  hash.Update(BytesOf(load));
  for (const Request::Input& input : request.inputs) {
    const uint64_t head[] = {static_cast<uint64_t>(input.view.dtype), input.view.shape.size(), input.view.byte_size};
    hash.Update(BytesOf(head));
    for (int64_t dim : input.view.shape) hash.Update(BytesOf(dim));
    if (input.view.byte_size > 0) hash.Update({static_cast<const char*>(input.view.data), input.view.byte_size});
  }
  return hash.FinishHex();
}

ResponseCache::Answer ResponseCache::Find(const std::string& key) {
  std::lock_guard lock(mutex_);
  auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->answer;
}

void ResponseCache::Insert(const std::string& key, const std::vector<Tensor>& outputs) {
  std::list<Entry> fresh(1), old;
  Entry& entry = fresh.front();
  entry.key = key;
  entry.bytes = kEntryBytes;
  for (const Tensor& output : outputs) entry.bytes += static_cast<int64_t>(output.buffer.size()) + kEntryBytes;
  if (entry.bytes > limit_bytes_) return;
  auto copy = std::make_shared<std::vector<Tensor>>(outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) CopyTensor(outputs[i], &(*copy)[i]);
  entry.answer = std::move(copy);
  const int64_t bytes = entry.bytes;

  std::lock_guard lock(mutex_);
  if (!by_key_.emplace(key, fresh.begin()).second) return;  // another thread was faster
  entries_.splice(entries_.begin(), fresh);
  bytes_ += bytes;
  while (bytes_ > limit_bytes_) {
    bytes_ -= entries_.back().bytes;
    by_key_.erase(entries_.back().key);
    old.splice(old.end(), entries_, std::prev(entries_.end()));
  }
}

int64_t ResponseCache::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace tandem::serving
