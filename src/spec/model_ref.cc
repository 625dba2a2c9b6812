#include "absl/strings/numbers.h"
#include "base/status.h"
#include "base/text.h"
#include "spec/document.h"
#include "spec/train_spec.h"

namespace tandem::spec {

absl::StatusOr<ModelRef> ParseModelRef(std::string_view text) {
  constexpr std::string_view kScheme = "models:/";
  std::string_view rest = text;
  if (rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  size_t mark = rest.find_first_of("@/");
  ModelRef ref;
  ref.name = rest.substr(0, mark);
  if (!CheckName("model name", ref.name).ok()) {
    return InvalidArgument(Quoted(text), " does not name a model; write NAME, NAME@ALIAS or NAME/VERSION");
  }
  if (mark == std::string_view::npos) return ref;
  std::string_view tail = rest.substr(mark + 1);
  if (rest[mark] == '@') {
    TANDEM_RETURN_IF_ERROR(Annotate(CheckName("alias", tail), Quoted(text)));
    ref.alias = tail;
  } else if (!absl::SimpleAtoi(AbslView(tail), &ref.version) || ref.version < 1) {
    return InvalidArgument(Quoted(text), ": the version is ", Quoted(tail), "; it must be a number from 1");
  }
  return ref;
}

}  // namespace tandem::spec
