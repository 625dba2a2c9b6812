#include "registry/split.h"

#include <cmath>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace tandem::registry {
namespace {

// The fields of one part.
struct Fields {
  int32_t& version;
  double& percent;
  int64_t& since_ms;
};

Fields Of(SplitPart part, Split& split) {
  if (part == SplitPart::kCanary) return {split.canary, split.canary_percent, split.canary_since_ms};
  return {split.shadow, split.shadow_percent, split.shadow_since_ms};
}

void Clear(const Fields& fields) {
  fields.version = 0;
  fields.percent = 0;
  fields.since_ms = 0;
}

absl::Status Record(Transaction& transaction, const Model& model, SplitPart part, int32_t version, const Change& change,
                    std::string_view text) {
  wire::ModelEvent event;
  event.set_kind(std::string(PartName(part)));
  event.set_version(version);
  event.set_who(std::string(change.who));
  event.set_when_ms(static_cast<double>(change.now_ms));
  event.set_text(std::string(text));
  return InsertEvent(transaction, model.name, event);
}

}  // namespace

std::string_view PartName(SplitPart part) { return part == SplitPart::kCanary ? "canary" : "shadow"; }

absl::Status CheckSplit(const Model& model, SplitPart part, int32_t version, double percent) {
  std::string_view name = PartName(part);
  if (!(percent > 0 && percent <= 100)) {
    return InvalidArgument("percent is ", percent, "; a ", name, " takes a part over 0 and up to 100 percent");
  }
  TANDEM_RETURN_IF_ERROR(FindVersion(model, version).status());
  auto champion = model.aliases.find("champion");
  if (champion == model.aliases.end()) {
    return FailedPrecondition("model '", model.name, "' has no champion that a ", name,
                              " could be compared with; deploy a version first: tandem models deploy ", model.name);
  }
  if (champion->second != version) return absl::OkStatus();
  return FailedPrecondition("version ", version, " is the champion of model '", model.name, "' already; a ", name,
                            " is another version");
}

absl::Status StartPart(Transaction& transaction, const Model& model, SplitPart part, int32_t version, double percent,
                       const Change& change, std::string_view why) {
  TANDEM_RETURN_IF_ERROR(CheckSplit(model, part, version, percent));
  Split split = model.split;
  const SplitPart other = part == SplitPart::kCanary ? SplitPart::kShadow : SplitPart::kCanary;
  if (Of(other, split).version == version) {
    Clear(Of(other, split));
    TANDEM_RETURN_IF_ERROR(
        Record(transaction, model, other, version, change, StrCat("ended: it is the ", PartName(part), " now")));
  }
  Fields fields = Of(part, split);
  if (fields.version != 0 && fields.version != version) {
    TANDEM_RETURN_IF_ERROR(Record(transaction, model, part, fields.version, change,
                                  StrCat("ended: version ", version, " is the ", PartName(part), " now")));
  }
  if (fields.version != version) fields.since_ms = change.now_ms;
  fields.version = version;
  fields.percent = percent;
  TANDEM_RETURN_IF_ERROR(SaveSplit(transaction, model.name, split));
  return Record(transaction, model, part, version, change,
                StrCat(absl::StrFormat("%g%% of the requests", percent), why.empty() ? "" : ": ", why));
}

absl::Status EndPart(Transaction& transaction, const Model& model, SplitPart part, int32_t version,
                     const Change& change, std::string_view text) {
  Split split = model.split;
  Fields fields = Of(part, split);
  if (fields.version == 0) return FailedPrecondition("model '", model.name, "' has no ", PartName(part));
  if (version != 0 && fields.version != version) {
    return FailedPrecondition("version ", version, " is not the ", PartName(part), " of model '", model.name,
                              "'; that is version ", fields.version);
  }
  const int32_t ended = fields.version;
  Clear(fields);
  TANDEM_RETURN_IF_ERROR(SaveSplit(transaction, model.name, split));
  return Record(transaction, model, part, ended, change, text);
}

absl::Status EndParts(Transaction& transaction, const Model& model, const Change& change, std::string_view text) {
  const Split& split = model.split;
  if (split.canary == 0 && split.shadow == 0) return absl::OkStatus();
  if (split.canary != 0) {
    TANDEM_RETURN_IF_ERROR(Record(transaction, model, SplitPart::kCanary, split.canary, change, text));
  }
  if (split.shadow != 0) {
    TANDEM_RETURN_IF_ERROR(Record(transaction, model, SplitPart::kShadow, split.shadow, change, text));
  }
  return SaveSplit(transaction, model.name, Split());
}

}  // namespace tandem::registry
