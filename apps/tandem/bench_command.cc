// tandem bench ...: measures a running server from the outside.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "absl/strings/str_format.h"
#include "base/fd.h"
#include "base/status.h"
#include "data/dataset.h"
#include "nlohmann/json.hpp"
#include "tandem/bench_colocation_command.h"
#include "tandem/bench_statistics.h"
#include "tandem/commands.h"
#include "tandem/request_stream.h"

namespace tandem::cli {
namespace {

struct BenchOptions {
  std::string model, dataset, split = "test", records;
  double rate = 100, connections = 4;
  double seconds = 0;  // 0 = until it is interrupted
};

// Sums up a stream, and writes each record as a line of CSV where a file is asked for.
class StreamReport {
 public:
  absl::Status Open(const std::string& file) {
    if (file.empty()) return absl::OkStatus();
    out_.reset(fopen(file.c_str(), "we"));
    if (out_ == nullptr) return ErrnoStatus(errno, StrCat("open '", file, "'"));
    fputs("unix_ms,latency_ms,ok,correct,version\n", out_.get());
    return absl::OkStatus();
  }

  void Add(const StreamRecord& record) {
    ++sent_;
    if (record.ok) {
      latencies_.push_back(record.latency_ms);
      ++answered_[record.version];
      right_[record.version] += record.correct ? 1 : 0;
    } else {
      ++failed_;
      last_error_ = record.error;
    }
    if (out_ != nullptr) {
      absl::FPrintF(out_.get(), "%.3f,%.4f,%d,%d,%s\n", record.unix_ms, record.latency_ms, record.ok, record.correct,
                    record.version);
      fflush(out_.get());  // whoever ends the stream reads the file at once
    }
  }

  std::string Json() {
    std::sort(latencies_.begin(), latencies_.end());
    nlohmann::ordered_json json = {{"sent", sent_},
                                   {"failed", failed_},
                                   {"p50_ms", Quantile(latencies_, 0.5)},
                                   {"p99_ms", Quantile(latencies_, 0.99)}};
    for (const auto& [version, count] : answered_) {
      json["versions"][version] = {{"answered", count},
                                   {"accuracy", static_cast<double>(right_[version]) / static_cast<double>(count)}};
    }
    if (!last_error_.empty()) json["last_error"] = last_error_;
    return json.dump();
  }

  std::string Text() {
    std::sort(latencies_.begin(), latencies_.end());
    std::string text = absl::StrFormat("sent %d, failed %d, p50 %.3f ms, p99 %.3f ms\n", sent_, failed_,
                                       Quantile(latencies_, 0.5), Quantile(latencies_, 0.99));
    for (const auto& [version, count] : answered_) {
      absl::StrAppendFormat(&text, "version %s answered %d, accuracy %.4f\n", version, count,
                            static_cast<double>(right_[version]) / static_cast<double>(count));
    }
    if (!last_error_.empty()) StrAppend(&text, "last error: ", last_error_, "\n");
    return text;
  }

  bool clean() const { return failed_ == 0; }

 private:
  struct Close {
    void operator()(FILE* file) const { fclose(file); }
  };
  std::unique_ptr<FILE, Close> out_;
  int64_t sent_ = 0, failed_ = 0;
  std::vector<double> latencies_;
  std::map<std::string, int64_t> answered_, right_;
  std::string last_error_;
};

absl::StatusOr<Exit> BenchStream(Session& session, const BenchOptions& options) {
  if (options.rate <= 0 || options.connections < 1 || options.connections > 256) {
    return InvalidArgument("--rate must be more than 0, --connections 1 to 256");
  }
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset info, client->datasets().Show(options.dataset));
  TANDEM_ASSIGN_OR_RETURN(data::Split split, data::ParseSplit(options.split));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<data::Dataset> dataset, data::Open(info, split));
  StreamReport report;
  TANDEM_RETURN_IF_ERROR(report.Open(options.records));
  StreamSettings settings{.endpoint = {.url = session.url, .token = session.token},
                          .model = options.model,
                          .rate = options.rate,
                          .seconds = options.seconds,
                          .connections = static_cast<int>(options.connections)};
  CatchInterrupts();
  TANDEM_RETURN_IF_ERROR(RunStream(
      settings, *dataset, [] { return Interrupts() > 0; }, [&](const StreamRecord& record) { report.Add(record); }));
  if (session.json) {
    session.PrintJsonText(report.Json());
  } else {
    session.Print(report.Text());
  }
  return report.clean() ? Exit::kOk : Exit::kFailed;
}

}  // namespace

void AddBenchCommand(Command& root, Session& session) {
  Command& bench = root.Add("bench", "Measure a running server, or what training costs serving on this machine");
  bench.Example("bench stream fashion fashion-mnist --rate 200 --seconds 30").Example("bench colocation --quick");
  Command& stream =
      bench.Add("stream", "Send real samples at a steady rate (open loop, Poisson arrivals) and measure the answers");
  auto options = std::make_shared<BenchOptions>();
  stream.Argument("MODEL", &options->model, "The model to ask")
      .Argument("DATASET", &options->dataset, "The data set whose samples are sent; on this machine")
      .Option("--split", &options->split, "train, val or test")
      .Option("--rate", &options->rate, "Requests per second")
      .Option("--seconds", &options->seconds, "How long; without it, until Ctrl-C")
      .Option("--connections", &options->connections, "Connections kept open")
      .Option("--records", &options->records, "Write each request to this CSV file")
      .Example("bench stream fashion fashion-mnist --rate 200 --seconds 30");
  stream.Run([&session, options] { return BenchStream(session, *options); });
  AddColocationBench(bench, session);
}

}  // namespace tandem::cli
