#pragma once
// A YAML document as a tree in which every value knows where it was written. The subset that settings and job specs
// need: one document of maps, lists and scalars; no anchors, aliases, tags or keys that are not text.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::spec {

inline constexpr size_t kMaxDocumentBytes = 1'000'000;
inline constexpr size_t kMaxDepth = 32;
inline constexpr size_t kMaxNodes = 20'000;

// One value. A plain struct; thread-compatible.
struct Node {
  enum class Kind { kNull, kScalar, kList, kMap };
  struct Entry;

  static Node Scalar(std::string_view text);
  static Node List(std::vector<Node> items);
  static Node Map();

  // The value under `key` of a map, or nullptr.
  const Node* Find(std::string_view key) const;
  Node* Find(std::string_view key);
  // REQUIRES: kind is kMap.
  void Set(std::string_view key, Node value);
  // No effect when there is no such key.
  void Erase(std::string_view key);

  Kind kind = Kind::kNull;
  std::string text;            // kScalar
  bool is_word = false;        // kScalar: one that YAML knows (true, false), so it is written without quotes
  std::vector<Node> items;     // kList
  std::vector<Entry> entries;  // kMap, in the order written
  std::string where;           // "job.yaml:3:9", or "--set lr=1"
};

struct Node::Entry {
  std::string key;
  std::string where;  // of the key
  Node value;
};

// Parses `yaml`; an empty text is an empty map. `source` begins each position.
absl::StatusOr<Node> ParseDocument(std::string_view yaml, std::string_view source);

// A scalar key that may stand for a map: "optimizer: sgd" is {optimizer: {name: sgd}}.
struct ShortForm {
  std::string_view path;  // "optimizer"
  std::string_view key;   // "name"
};

// Applies "key.path=value" (the value is YAML; null or nothing takes the key away) onto `root`. Maps on the way are
// made; an entry of a list is named by its index from 0 or its `name` ("windows.night.from=23:00"). Errors and the new
// values are placed at "--set key.path=value".
absl::Status ApplyOverride(std::string_view assignment, const std::vector<ShortForm>& short_forms, Node& root);

// Block style, two blanks of indent; lists of scalars on one line, lists of maps with a line for each. ParseDocument of
// it gives the same tree.
std::string EmitYaml(const Node& root);

// The text for a message: control characters escaped, clipped to 80 bytes; Quoted puts it in quotes.
std::string Escaped(std::string_view text);
std::string Quoted(std::string_view text);

// InvalidArgument("<where>: <pieces>").
absl::Status ErrorAt(std::string_view where, std::string_view message);

}  // namespace tandem::spec
