#include "training/evaluate_job.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/status.h"

namespace tandem::training {
namespace {

bool IsDistribution(std::span<const float> row) {
  double sum = 0;
  for (float value : row) {
    if (!(value >= 0 && value <= 1)) return false;
    sum += value;
  }
  return std::abs(sum - 1) < 1e-3;
}

double NegativeLogLikelihood(std::span<const float> row, int32_t label) {
  if (IsDistribution(row)) return -std::log(std::max<double>(row[label], 1e-12));
  double top = *std::max_element(row.begin(), row.end()), sum = 0;
  for (float value : row) sum += std::exp(value - top);
  return std::log(sum) + top - row[label];
}

// NaN compares as nothing, so that the first class would seem to be the largest. -inf is a probability of 0.
bool IsAnswer(std::span<const float> row) {
  return std::none_of(row.begin(), row.end(), [](float value) { return std::isnan(value); }) &&
         std::isfinite(*std::max_element(row.begin(), row.end()));
}

absl::StatusOr<std::vector<float>> Floats(const std::string& bytes) {
  if (bytes.size() % sizeof(float) != 0) return InvalidArgument("the answer has ", bytes.size(), " bytes, no floats");
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Samples [begin, begin + labels) of the set as one message.
absl::StatusOr<wire::EvalBatch> ReadRange(const data::Dataset& dataset, int64_t begin, std::vector<int32_t>* labels) {
  const int64_t count = static_cast<int64_t>(labels->size());
  TANDEM_ASSIGN_OR_RETURN(int64_t size, ElementCount(dataset.shape()));
  std::vector<float> values(count * size);
  for (int64_t i = 0; i < count; ++i) {
    std::span<float> sample(values.data() + i * size, size);
    TANDEM_RETURN_IF_ERROR(dataset.Get(begin + i, sample, &(*labels)[i]));
  }
  wire::EvalBatch message;
  message.add_shape(count);
  for (int64_t dimension : dataset.shape()) message.add_shape(dimension);
  message.set_data(values.data(), values.size() * sizeof(float));
  return message;
}

}  // namespace

absl::Status Score::Add(std::span<const float> outputs, const Shape& shape, std::span<const int32_t> labels) {
  const int64_t n = static_cast<int64_t>(labels.size());
  if (shape.size() != 2 || shape[0] != n || shape[1] < 1 || shape[1] > (int64_t{1} << 30) ||
      static_cast<int64_t>(outputs.size()) != n * shape[1]) {
    return InvalidArgument("the answer has shape ", ToString(shape), " and ", outputs.size(), " numbers for ", n,
                           " samples, wanted [", n, ",classes]");
  }
  for (int64_t i = 0; i < n; ++i) {
    std::span<const float> row = outputs.subspan(i * shape[1], shape[1]);
    if (labels[i] < 0 || labels[i] >= shape[1]) {
      return InvalidArgument("label ", labels[i], " is out of range for a model of ", shape[1], " classes");
    }
    if (!IsAnswer(row)) {
      loss_ = std::numeric_limits<double>::infinity();
      continue;
    }
    loss_ += NegativeLogLikelihood(row, labels[i]);
    correct_ += std::max_element(row.begin(), row.end()) - row.begin() == labels[i] ? 1 : 0;
  }
  samples_ += n;
  return absl::OkStatus();
}

wire::VersionMetrics Score::Metrics() const {
  wire::VersionMetrics metrics;
  double samples = static_cast<double>(samples_), per = 1 / std::max(1.0, samples);
  (*metrics.mutable_metrics())["accuracy"] = static_cast<double>(correct_) * per;
  (*metrics.mutable_metrics())["loss"] = loss_ * per;
  (*metrics.mutable_metrics())["samples"] = samples;
  return metrics;
}

absl::StatusOr<std::map<std::string, wire::VersionMetrics>> EvaluateVersions(
    const data::Dataset& dataset, const std::vector<std::string>& versions, int64_t batch, const AskEngine& ask,
    const std::function<void(int64_t)>& progress) {
  if (dataset.size() == 0) return InvalidArgument("the split to evaluate on has no samples");
  std::map<std::string, Score> scores;
  batch = std::max<int64_t>(1, batch);
  for (int64_t begin = 0; begin < dataset.size(); begin += batch) {
    std::vector<int32_t> labels(std::min(batch, dataset.size() - begin));
    TANDEM_ASSIGN_OR_RETURN(wire::EvalBatch message, ReadRange(dataset, begin, &labels));
    for (const std::string& version : versions) {
      message.set_version(version);
      TANDEM_ASSIGN_OR_RETURN(wire::EvalAnswer answer, ask(message));
      if (!answer.error().empty()) return Internal("version '", version, "': ", answer.error());
      TANDEM_ASSIGN_OR_RETURN(std::vector<float> outputs, Floats(answer.logits()));
      TANDEM_RETURN_IF_ERROR(
          Annotate(scores[version].Add(outputs, Shape(answer.shape().begin(), answer.shape().end()), labels),
                   StrCat("version '", version, "'")));
    }
    if (progress) progress(begin + static_cast<int64_t>(labels.size()));
  }
  std::map<std::string, wire::VersionMetrics> metrics;
  for (const auto& [version, score] : scores) metrics[version] = score.Metrics();
  return metrics;
}

}  // namespace tandem::training
