#include "spec/settings_table.h"

#include "absl/strings/numbers.h"
#include "base/status.h"
#include "spec/fields.h"
#include "spec/sharing_node.h"

namespace tandem::spec {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 50;
constexpr double kDay = 86400;

// HOST:PORT, with an IPv6 address in brackets.
Type<std::string> Address() {
  constexpr std::string_view kDescribed = "HOST:PORT, like 127.0.0.1:8000 or [::1]:8000, port 0 to 65535";
  return {std::string(kDescribed),
          [=](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
            std::string_view text = node.text;
            size_t colon = text.rfind(':');
            if (node.kind != Node::Kind::kScalar || colon == std::string_view::npos) {
              return WrongValue(node, path, kDescribed);
            }
            std::string_view host = text.substr(0, colon);
            bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
            bool plain = !host.empty() && host.find_first_of(":[] /@") == std::string_view::npos;
            uint32_t port = 0;
            bool port_ok = absl::SimpleAtoi(AbslView(text.substr(colon + 1)), &port) && port <= 65535;
            if (!port_ok || !(bracketed || plain)) return WrongValue(node, path, kDescribed);
            return node.text;
          },
          [](const std::string& text) { return Node::Scalar(text); }};
}

bool IsHttpUrl(std::string_view text) {
  constexpr std::string_view kScheme = "http://";
  if (!text.starts_with(kScheme)) return false;
  std::string_view host = text.substr(kScheme.size());
  host = host.substr(0, host.find('/'));
  const size_t colon = host.rfind(':');
  const bool has_port = colon != host.npos && host.find(']', colon) == host.npos;
  uint32_t port = 1;
  if (has_port && !absl::SimpleAtoi(AbslView(host.substr(colon + 1)), &port)) return false;
  const std::string_view name = has_port ? host.substr(0, colon) : host;
  const bool clean = text.find_first_of("?#@ \t\\") == text.npos;
  return clean && !name.empty() && port >= 1 && port <= 65535;
}

// The address of a service without TLS, perhaps with a path; empty = none.
Type<std::string> HttpUrl() {
  constexpr std::string_view kDescribed = "a URL like http://127.0.0.1:4318 (https is not spoken), or empty for none";
  return {std::string(kDescribed),
          [=](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
            const bool good = node.kind == Node::Kind::kScalar && (node.text.empty() || IsHttpUrl(node.text));
            if (!good) return WrongValue(node, path, kDescribed);
            return node.text;
          },
          [](const std::string& text) { return Node::Scalar(text); }};
}

// Where a setting lives in the struct.
template <typename V>
using Slot = V& (*)(Settings&);

template <typename V>
Setting Make(std::string_view key, std::string_view flag, Slot<V> slot, Type<V> type, std::string_view help) {
  Settings defaults;
  return {.key = key,
          .flag = flag,
          .described = type.described,
          .default_text = type.write(slot(defaults)).text,
          .help = help,
          .is_switch = std::is_same_v<V, bool>,
          .read = [key, slot, read = std::move(type.read)](const Node& node, Settings& settings) -> absl::Status {
            TANDEM_ASSIGN_OR_RETURN(slot(settings), read(node, std::string(key)));
            return absl::OkStatus();
          }};
}

#define TANDEM_SLOT(member) [](Settings& s) -> decltype((s.member)) { return s.member; }

std::vector<Setting> GeneralSettings() {
  return {
      Make<std::string>("data", "--data", TANDEM_SLOT(data), Text(), "Folder of the database, models and checkpoints."),
      Make<std::string>("config", "--config", TANDEM_SLOT(config), Text(),
                        "Settings file (YAML, the keys of this table)."),
      Make<std::string>("ready_file", "--ready-file", TANDEM_SLOT(ready_file), Text(),
                        "Written, as JSON with the addresses, once all is ready."),
      Make<std::string>("grpc", "--grpc", TANDEM_SLOT(grpc), Address(),
                        "Address of gRPC: Open Inference Protocol v2 and TensorFlow Serving."),
      Make<std::string>("metrics", "--metrics", TANDEM_SLOT(metrics), Address(), "Address of the Prometheus metrics."),
      Make<std::string>("policy", "", TANDEM_SLOT(policy), OneOf(PolicyNames()),
                        "Who gets which share of the machine; short for `sharing.policy`."),
      Make<double>("stop_timeout", "", TANDEM_SLOT(stop_timeout_s), Seconds(0, kDay),
                   "Time to drain requests and save jobs at the end."),
  };
}

std::vector<Setting> DoorSettings() {
  return {
      Make<std::string>("http.address", "--http", TANDEM_SLOT(http.address), Address(),
                        "Address of inference and management; an address other than loopback needs a token file."),
      Make<std::string>("http.token_file", "--token-file", TANDEM_SLOT(http.token_file), Text(),
                        "Tokens, one 'name:secret' a line, readable by its owner only."),
      Make<int64_t>("http.io_threads", "", TANDEM_SLOT(http.io_threads), WholeNumber(0, 1024),
                    "Data-plane threads; 0 = one per usable CPU."),
      Make<int64_t>("http.max_body", "", TANDEM_SLOT(http.max_body_bytes), Bytes(1024, kMaxBytes),
                    "Largest body of one inference request."),
      Make<int64_t>("http.max_connections", "", TANDEM_SLOT(http.max_connections), WholeNumber(1, 1'000'000),
                    "Connections that are open at the same time, of HTTP and of gRPC each."),
      Make<double>("http.read_timeout", "", TANDEM_SLOT(http.read_timeout_s), Seconds(1, kDay),
                   "A request whose head, or whose next piece of a body, takes longer is refused."),
      Make<double>("http.idle_timeout", "", TANDEM_SLOT(http.idle_timeout_s), Seconds(1, kDay),
                   "A connection without a request is closed after it."),
      Make<std::string>("log.level", "--log-level", TANDEM_SLOT(log.level),
                        OneOf({"debug", "info", "warning", "error"}), "The least severe lines that are kept."),
      Make<std::string>("log.file", "--log-file", TANDEM_SLOT(log.file), Text(), "Rotated file; without it, stderr."),
      Make<bool>("log.json", "--log-json", TANDEM_SLOT(log.json), TrueOrFalse(), "One JSON object a line."),
  };
}

std::vector<Setting> WorkSettings() {
  return {
      Make<int64_t>("serving.instances", "", TANDEM_SLOT(serving.instances), WholeNumber(0, 1024),
                    "Requests of one version that run at the same time; 0 = one per data-plane thread."),
      Make<int64_t>("serving.queue_limit", "", TANDEM_SLOT(serving.queue_limit), WholeNumber(1, 1'000'000),
                    "Waiting requests per version; more are refused at once."),
      Make<std::string>("serving.folder", "", TANDEM_SLOT(serving.folder), Text(),
                        "Existing folder of the models' files, perhaps on another disk; none = they are in `data`."),
      Make<int64_t>("serving.memory", "", TANDEM_SLOT(serving.memory_bytes), Bytes(0, kMaxBytes),
                    "Memory of all loaded versions; 0 = no limit."),
      Make<double>("serving.prepare_timeout", "", TANDEM_SLOT(serving.prepare_timeout_s), Seconds(1, kDay),
                   "Longest time to check and compile a model, and that an evaluation may stand still."),
      Make<std::string>("serving.engine", "", TANDEM_SLOT(serving.engine), Name("engine name"),
                        "The plug-in that serves models that name none; auto: the best one, as measured."),
      Make<double>("serving.slo_ms", "", TANDEM_SLOT(serving.slo_ms), Number(0, 3'600'000),
                   "Target p99, in milliseconds, of every model that has none of its own; 0 = none."),
      Make<int64_t>("serving.response_cache", "", TANDEM_SLOT(serving.response_cache_bytes), Bytes(0, kMaxBytes),
                    "Memory for answers of models whose configuration says `response_cache: true`."),
      Make<std::string>("serving.model_repository", "--model-repository", TANDEM_SLOT(serving.model_repository), Text(),
                        "Folder of models to serve, laid out NAME/VERSION/model.onnx with an optional config.pbtxt."),
      Make<std::string>("serving.model_control", "--model-control", TANDEM_SLOT(serving.model_control),
                        OneOf({"poll", "explicit"}),
                        "Whether the folder's models are followed as they change, or loaded by request only."),
      Make<double>("serving.poll_interval", "", TANDEM_SLOT(serving.poll_interval_s), Seconds(0.1, kDay),
                   "How often the folder is looked at."),
      Make<std::string>("training.folder", "", TANDEM_SLOT(training.folder), Text(),
                        "The same for checkpoints and copied data sets."),
      Make<int64_t>("training.threads", "", TANDEM_SLOT(training.threads), WholeNumber(0, 4096),
                    "Threads of all jobs together; 0 = all usable CPUs."),
      Make<int64_t>("training.memory", "", TANDEM_SLOT(training.memory_bytes), Bytes(0, kMaxBytes),
                    "Memory of all jobs together; 0 = 80 % of the machine's."),
      Make<int64_t>("training.max_jobs", "", TANDEM_SLOT(training.max_jobs), WholeNumber(1, 1024),
                    "Jobs that run at the same time."),
      Make<int64_t>("training.max_attempts", "", TANDEM_SLOT(training.max_attempts), WholeNumber(1, 1000),
                    "Starts of one job, its own failures counted, before it fails for good."),
  };
}

std::vector<Setting> TelemetrySettings() {
  return {
      Make<std::string>("telemetry.otlp_endpoint", "", TANDEM_SLOT(telemetry.otlp_endpoint), HttpUrl(),
                        "Collector that traces are sent to by OTLP/HTTP, at /v1/traces below it."),
      Make<double>("telemetry.trace_ratio", "", TANDEM_SLOT(telemetry.trace_ratio), Number(0, 1),
                   "Share of the requests without a `traceparent` that begin a trace; others do as their caller says."),
      Make<std::string>("telemetry.service_name", "", TANDEM_SLOT(telemetry.service_name), Text(),
                        "What traces call this server (`service.name`)."),
  };
}

std::vector<Setting> SharingSettings() {
  return {
      Make<std::string>("isolation.rung", "", TANDEM_SLOT(isolation.rung),
                        OneOf({"auto", "realtime", "cgroup-weight", "autogroup", "nice", "off"}),
                        "The best rung of isolation to climb to; auto = the best that this machine has."),
      Make<double>("isolation.budget_ms", "", TANDEM_SLOT(isolation.budget_ms), Number(1, 60'000),
                   "A latency-class thread that runs so many milliseconds without a wait is demoted until it waits."),
      {.key = "sharing",
       .described = "a map: the document of `tandem policy set`",
       .help = "Shares, windows and limits of serving and training.",
       .read = [](const Node& node, Settings& settings) -> absl::Status {
         TANDEM_ASSIGN_OR_RETURN(settings.sharing, ReadSharing(node, "sharing"));
         settings.sharing_given = true;
         return absl::OkStatus();
       }},
  };
}

#undef TANDEM_SLOT

}  // namespace

const std::vector<Setting>& SettingsTable() {
  static const std::vector<Setting>* const kTable = [] {
    auto* table = new std::vector<Setting>(GeneralSettings());
    for (Setting& setting : DoorSettings()) table->push_back(std::move(setting));
    for (Setting& setting : WorkSettings()) table->push_back(std::move(setting));
    for (Setting& setting : TelemetrySettings()) table->push_back(std::move(setting));
    for (Setting& setting : SharingSettings()) table->push_back(std::move(setting));
    return table;
  }();
  return *kTable;
}

}  // namespace tandem::spec
