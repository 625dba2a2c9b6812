#include "daemon/training_metrics.h"

#include "base/strings.h"

namespace tandem::daemon {

void AddTrainingMetrics(const jobs::JobStore& jobs, std::vector<MetricFamily>* families) {
  MetricFamily states{"tandem_jobs", "Jobs in each state.", MetricFamily::Type::kGauge, {}};
  MetricFamily loss{"tandem_training_loss", "Smoothed training loss of a running job.", MetricFamily::Type::kGauge, {}};
  MetricFamily accuracy{"tandem_training_accuracy",
                        "Accuracy on the validation split, last evaluation (0..1).",
                        MetricFamily::Type::kGauge,
                        {}};
  MetricFamily rate{
      "tandem_training_images_per_second", "Training speed of a running job.", MetricFamily::Type::kGauge, {}};
  MetricFamily steps{
      "tandem_training_steps_total", "Optimiser steps that a running job has done.", MetricFamily::Type::kCounter, {}};
  MetricFamily step_time{
      "tandem_training_step_seconds", "Mean time of one step of a running job.", MetricFamily::Type::kGauge, {}};
  std::map<std::string, int> counts;
  for (const jobs::JobRecord& record : jobs.List()) {
    ++counts[std::string(jobs::StateName(record.state))];
    if (record.state != jobs::State::kRunning) continue;
    Labels labels = {{"job", StrCat(record.id)}, {"name", record.name}};
    const wire::Progress& progress = record.progress;
    loss.samples.push_back({labels, progress.loss(), nullptr});
    if (progress.accuracy() >= 0) accuracy.samples.push_back({labels, progress.accuracy(), nullptr});
    rate.samples.push_back({labels, progress.images_per_s(), nullptr});
    steps.samples.push_back({labels, static_cast<double>(progress.step()), nullptr});
    if (progress.eta_s() > 0 && progress.steps() > progress.step()) {
      step_time.samples.push_back({labels, progress.eta_s() / (progress.steps() - progress.step()), nullptr});
    }
  }
  for (const auto& [state, count] : counts)
    states.samples.push_back({{{"state", state}}, static_cast<double>(count), nullptr});
  for (MetricFamily* family : {&states, &loss, &accuracy, &rate, &steps, &step_time}) {
    if (!family->samples.empty()) families->push_back(std::move(*family));
  }
}

}  // namespace tandem::daemon
