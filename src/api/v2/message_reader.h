#pragma once
// Reads documents that follow a protobuf message of somebody else, of which only some fields mean anything here.
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "spec/document.h"

namespace tandem::api::v2 {

// One table a message: key -> what reads its value. Other keys are ignored, and named. Thread-compatible.
class MessageReader {
 public:
  // `path` names the value in messages ("instance_group.0.count").
  using Reader = std::function<absl::Status(const spec::Node& value, const std::string& path)>;
  using Table = std::map<std::string_view, Reader>;

  absl::Status ReadMap(const spec::Node& map, const std::string& path, const Table& table);
  // Each item of a list, or the value that stands alone.
  static absl::Status ForEach(const spec::Node& list, const std::string& path, const Reader& read);
  // Has an effect only if the value is none of those that nobody filled in (0, false, "", nothing).
  void Ignore(const spec::Node& value, const std::string& path);
  std::vector<std::string> TakeIgnored() { return std::move(ignored_); }

  // Readers. The pointers live as long as they.
  static absl::Status Accept(const spec::Node&, const std::string&) { return absl::OkStatus(); }
  static Reader Text(std::string* to);
  static Reader Millis(double* to);  // from microseconds
  template <typename T>
  static Reader Number(int64_t min, int64_t max, T* to) {
    return [=](const spec::Node& value, const std::string& path) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(int64_t number, Whole(value, path, min, max));
      *to = static_cast<T>(number);
      return absl::OkStatus();
    };
  }
  static absl::StatusOr<int64_t> Whole(const spec::Node& node, const std::string& path, int64_t min, int64_t max);

 private:
  std::vector<std::string> ignored_;
};

// What a message holds that nobody filled in; documents that servers print are full of it.
bool IsDefault(const spec::Node& node);

}  // namespace tandem::api::v2
