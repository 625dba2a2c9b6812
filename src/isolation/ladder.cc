#include "isolation/ladder.h"

#include "base/status.h"
#include "base/text.h"

namespace tandem::isolation {

std::string_view RungName(Rung rung) {
  switch (rung) {
    case Rung::kRealtime:
      return "realtime";
    case Rung::kCgroupWeight:
      return "cgroup-weight";
    case Rung::kAutogroup:
      return "autogroup";
    case Rung::kNice:
      return "nice";
    case Rung::kOff:
      return "off";
  }
  return "nice";
}

absl::StatusOr<Rung> ParseWanted(const std::string& wanted) {
  if (wanted == "auto") return Rung::kRealtime;
  std::vector<std::string> names = {"auto"};
  for (Rung rung : {Rung::kRealtime, Rung::kCgroupWeight, Rung::kAutogroup, Rung::kNice, Rung::kOff}) {
    if (wanted == RungName(rung)) return rung;
    names.emplace_back(RungName(rung));
  }
  return InvalidArgument("isolation '", wanted,
                         "' is unknown; known are auto, realtime, cgroup-weight, autogroup, nice, off",
                         DidYouMean(wanted, names));
}

Choice Climb(const Found& found, Rung wanted) {
  Choice choice;
  if (wanted == Rung::kOff) {
    choice.rung = Rung::kOff;
    choice.explanation = "isolation is off, as the settings ask: training competes with serving as any program does";
    return choice;
  }
  choice.realtime = found.realtime && wanted == Rung::kRealtime;
  choice.cgroup = found.cgroup && wanted <= Rung::kCgroupWeight;
  choice.autogroup = !choice.cgroup && found.autogroup && wanted <= Rung::kAutogroup;
  const std::string asked = StrCat("the settings ask for no more than ", RungName(wanted));
  const std::string no_cgroup =
      wanted > Rung::kCgroupWeight ? asked : StrCat("no cgroup can be written (", found.why_not_cgroup, ")");
  const std::string no_realtime = wanted != Rung::kRealtime ? asked : found.why_not_realtime;
  if (choice.cgroup) {
    choice.explanation = StrCat("training runs in a cgroup (", found.cgroup_kind, ") of the lowest CPU weight");
  } else if (choice.autogroup) {
    choice.explanation = StrCat("training runs in an autogroup of nice 19; ", no_cgroup);
  } else {
    choice.explanation = StrCat("training runs at nice 19 only; ", no_cgroup);
    if (wanted <= Rung::kAutogroup)
      choice.explanation += ", and autogroup is off (sysctl kernel.sched_autogroup_enabled)";
  }
  if (choice.realtime) {
    choice.rung = Rung::kRealtime;
    choice.explanation = StrCat("threads that answer requests are real-time (SCHED_FIFO), ", choice.explanation);
    return choice;
  }
  choice.rung = choice.cgroup ? Rung::kCgroupWeight : (choice.autogroup ? Rung::kAutogroup : Rung::kNice);
  if (choice.cgroup || wanted == Rung::kRealtime)
    choice.explanation += StrCat("; threads that answer requests are not real-time: ", no_realtime);
  return choice;
}

}  // namespace tandem::isolation
