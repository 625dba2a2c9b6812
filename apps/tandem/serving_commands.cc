#include "tandem/serving_commands.h"

#include "absl/strings/str_format.h"
#include "spec/train_spec.h"
#include "tandem/model_text.h"
#include "tandem/text_file.h"

namespace tandem::cli {
namespace {

constexpr char kModelHelp[] = "NAME, NAME/VERSION or NAME@ALIAS";
constexpr double kNotGiven = -1;

struct Options {
  std::string model, file, why, comment;
  std::vector<std::string> set;
  int32_t version = 0;
  double percent = kNotGiven;
  bool show = false, stop = false, defaults = false;
};
using SharedOptions = std::shared_ptr<Options>;

// A model and one of its versions; 0 = none was named.
struct Named {
  std::string model;
  int32_t version = 0;
};

absl::StatusOr<Named> ReadNamed(Session& session, const Options& options) {
  absl::StatusOr<spec::ModelRef> ref = spec::ParseModelRef(options.model);
  if (!ref.ok()) return Usage(MessageOf(ref.status()));
  if (options.version < 0) return Usage("VERSION is ", options.version, "; versions are numbered from 1");
  Named named{ref->name, options.version};
  if (ref->version == 0 && ref->alias.empty()) return named;
  if (options.version != 0) return Usage("'", options.model, "' names a version, and so does ", options.version);
  named.version = ref->version;
  if (ref->alias.empty()) return named;
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::Model model, client->models().Show(ref->name));
  auto found = model.aliases().find(ref->alias);
  if (found == model.aliases().end()) return NotFound("model '", ref->name, "' has no alias '", ref->alias, "'");
  named.version = found->second;
  return named;
}

// --- configuration ---

std::string ConfigText(const wire::ServingConfig& config) {
  return config.text().empty() ? "all defaults\n" : config.text();
}

absl::StatusOr<Exit> ShowConfig(Session& session, const std::string& model) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::ServingConfig config, client->models().Config(model));
  if (session.json) {
    session.PrintJson(config);
    return Exit::kOk;
  }
  if (config.when_ms() > 0) {
    session.Print(StrCat("# ", Ago(config.when_ms(), NowUnixMillis()), " by ", config.who(),
                         config.why().empty() ? "" : ": ", config.why(), "\n"));
  }
  session.Print(ConfigText(config));
  return Exit::kOk;
}

absl::StatusOr<Exit> RunConfigure(Session& session, const Options& options) {
  const bool changes = !options.file.empty() || !options.set.empty() || options.defaults;
  if (options.show && changes) return Usage("--show changes nothing; leave --file, --set and --defaults out");
  if (!changes) return ShowConfig(session, options.model);
  if (options.defaults && !options.file.empty()) return Usage("give --file or --defaults, not both");
  wire::ConfigureRequest request;
  request.set_model(options.model);
  request.set_why(options.why);
  request.set_replace(options.defaults || !options.file.empty());
  if (!options.file.empty()) {
    TANDEM_ASSIGN_OR_RETURN(TextFile file, ReadTextFile(options.file));
    request.set_text(std::move(file.text));
    request.set_source(std::move(file.source));
  }
  for (const std::string& override : options.set) {
    if (override.find('=') == override.npos) return Usage("--set is '", override, "'; write key=value");
    request.add_overrides(override);
  }
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::ServingConfig config, client->models().Configure(request));
  if (session.json) {
    session.PrintJson(config);
  } else {
    session.Print(StrCat(session.style.Bold(config.model()), " is served with\n", ConfigText(config)));
  }
  return Exit::kOk;
}

void AddConfigure(Command& models, Session& session) {
  auto options = std::make_shared<Options>();
  models.Add("configure", "How a model is served: batching, queue, instances, engine, versions; in force at once")
      .Argument("NAME", &options->model, "Model")
      .Option("--file", &options->file, "The whole configuration as YAML; - reads stdin")
      .Option("--set", &options->set, "key=value, on top of the file or of what is in force; may be repeated")
      .Flag("--defaults", &options->defaults, "Begin from the defaults instead of what is in force")
      .Flag("--show", &options->show, "Print what is in force; so does giving nothing")
      .Option("--why", &options->why, "The reason, kept in the history")
      .Example("models configure fashion --set max_batch_size=8 --set slo_ms=5")
      .Example("models configure fashion --file fashion.yaml --why 'batches of 8'")
      .Example("models configure fashion --show")
      .Run([&session, options] { return RunConfigure(session, *options); });
}

// --- canary and shadow ---

enum class Part { kCanary, kShadow };

absl::StatusOr<Exit> RunSplit(Session& session, Part part, const Options& options) {
  const char* name = part == Part::kCanary ? "canary" : "shadow";
  if (options.stop && options.percent > 0) return Usage("give --percent or --stop, not both");
  if (!options.stop && !(options.percent > 0 && options.percent <= 100)) {
    return options.percent == kNotGiven ? Usage("give --percent P, or --stop to end the ", name)
                                        : Usage("--percent is ", options.percent, "; it must be over 0, up to 100");
  }
  TANDEM_ASSIGN_OR_RETURN(Named named, ReadNamed(session, options));
  wire::SplitRequest request;
  request.set_model(named.model);
  request.set_version(named.version);
  request.set_percent(options.stop ? 0 : options.percent);
  request.set_why(options.why);
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  auto answer = part == Part::kCanary ? client->models().SetCanary(request) : client->models().SetShadow(request);
  TANDEM_RETURN_IF_ERROR(answer.status());
  if (session.json) {
    session.PrintJson(*answer);
  } else if (request.percent() == 0) {
    session.Print(StrCat("the ", name, " of ", named.model, " has ended\n"));
  } else {
    int32_t version = part == Part::kCanary ? answer->canary() : answer->shadow();
    session.Print(StrCat(session.style.Bold(StrCat(named.model, "/", version)), " gets ",
                         part == Part::kCanary ? "" : "copies of ", absl::StrFormat("%g%%", request.percent()),
                         " of the requests that name no version; tandem models show ", named.model,
                         " shows how it does\n"));
  }
  return Exit::kOk;
}

void AddSplit(Command& models, Session& session, Part part) {
  auto options = std::make_shared<Options>();
  const bool canary = part == Part::kCanary;
  const std::string name = canary ? "canary" : "shadow";
  models
      .Add(name, canary ? "Send a part of the requests to a version; rolled back by itself if it does badly"
                        : "Send copies of requests to a version; its answers are compared and counted, never returned")
      .Argument("MODEL", &options->model, kModelHelp)
      .OptionalArgument("VERSION", &options->version, StrCat("Number; the present ", name, " if absent"))
      .Option("--percent", &options->percent, "Of the requests that name no version, over 0, up to 100")
      .Flag("--stop", &options->stop, StrCat("End the ", name))
      .Option("--why", &options->why, "The reason, kept in the history")
      .Example(StrCat("models ", name, " fashion 3 --percent 10"))
      .Example(StrCat("models ", name, " fashion --stop"))
      .Run([&session, options, part] { return RunSplit(session, part, *options); });
}

// --- promote, approve, reject ---

absl::StatusOr<Exit> RunPromote(Session& session, const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(Named named, ReadNamed(session, options));
  wire::PromoteRequest request;
  request.set_model(named.model);
  request.set_version(named.version);
  request.set_why(options.why);
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, client->models().Promote(request));
  if (session.json) {
    session.PrintJson(version);
  } else {
    session.Print(StrCat("serving ", session.style.Bold(StrCat(version.model(), "/", version.version())), " (",
                         AliasesOf(version), "); tandem models rollback ", version.model(), " takes it back\n"));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunApprove(Session& session, const Options& options, bool approved) {
  if (options.comment.empty()) return Usage("--comment is missing; it is kept with the version");
  TANDEM_ASSIGN_OR_RETURN(Named named, ReadNamed(session, options));
  if (named.version == 0) return Usage("VERSION is missing");
  wire::ApproveRequest request;
  request.set_model(named.model);
  request.set_version(named.version);
  request.set_comment(options.comment);
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, client->models().Approve(request, approved));
  if (session.json) {
    session.PrintJson(version);
    return Exit::kOk;
  }
  std::string aliases = AliasesOf(version);
  session.Print(StrCat(version.approval(), " ", session.style.Bold(StrCat(version.model(), "/", version.version())),
                       aliases.empty() ? "" : " (" + aliases + ")", "\n"));
  return Exit::kOk;
}

void AddApproval(Command& models, Session& session, bool approved) {
  auto options = std::make_shared<Options>();
  const std::string name = approved ? "approve" : "reject";
  models
      .Add(name, approved ? "Let a version become champion, where the model's configuration asks for approval"
                          : "Keep a version from becoming champion, where the configuration asks for approval")
      .Argument("MODEL", &options->model, kModelHelp)
      .OptionalArgument("VERSION", &options->version, "Number")
      .Option("--comment", &options->comment, "Kept with the version")
      .Example(
          StrCat("models ", name, " fashion 3 --comment ", approved ? "'checked on new data'" : "'wrong on class 7'"))
      .Run([&session, options, approved] { return RunApprove(session, *options, approved); });
}

// --- engines ---

absl::StatusOr<Exit> RunMeasure(Session& session, const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(Named named, ReadNamed(session, options));
  wire::MeasureRequest request;
  request.set_model(named.model);
  request.set_version(named.version);
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, client->models().Measure(request));
  if (session.json) {
    session.PrintJson(version);
    return Exit::kOk;
  }
  session.Print(StrCat(session.style.Bold(StrCat(version.model(), "/", version.version())), "\n",
                       EngineReportText(version.engine_report(), session.style)));
  return Exit::kOk;
}

void AddMeasure(Command& models, Session& session) {
  auto options = std::make_shared<Options>();
  models.Add("measure", "Measure a version on every engine that is there; what is found is kept with it")
      .Argument("MODEL", &options->model, kModelHelp)
      .Example("models measure fashion")
      .Example("models measure fashion/3")
      .Run([&session, options] { return RunMeasure(session, *options); });
}

}  // namespace

void AddServingCommands(Command& models, Session& session) {
  AddConfigure(models, session);
  AddSplit(models, session, Part::kCanary);
  AddSplit(models, session, Part::kShadow);
  auto options = std::make_shared<Options>();
  models.Add("promote", "Make a version champion; canary and shadow end")
      .Argument("MODEL", &options->model, kModelHelp)
      .OptionalArgument("VERSION", &options->version, "Number; the canary if absent")
      .Option("--why", &options->why, "The reason, kept in the history")
      .Example("models promote fashion")
      .Example("models promote fashion 3 --why 'better on new data'")
      .Run([&session, options] { return RunPromote(session, *options); });
  AddMeasure(models, session);
  AddApproval(models, session, true);
  AddApproval(models, session, false);
}

}  // namespace tandem::cli
