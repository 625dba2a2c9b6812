#include "measure_command.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/files.h"
#include "base/status.h"
#include "data/dataset.h"
#include "engine/child.h"
#include "engine/measure.h"

namespace {

using tandem::Shape;
using tandem::StrCat;
using tandem::TensorSignature;
using tandem::engine::Engine;
using tandem::engine::LoadedModel;
namespace wire = tandem::wire;

// Free sizes after the first: the first of these that the model takes. Images and texts of a usual size say more about
// speed than the smallest ones; some models take nothing but a multiple of 32.
constexpr int64_t kInnerSizes[] = {16, 1, 224};

// An engine that takes more than half of the machine's memory is not one to serve with. (A sanitizer's own maps are
// larger than that.)
void LimitMemory() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const rlim_t half = static_cast<rlim_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) / 2;
  const rlimit limit = {half, half};
  setrlimit(RLIMIT_DATA, &limit);
#endif
}

absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const std::string& engine_name, const std::string& folder,
                                                  const tandem::engine::Options& options) {
  LimitMemory();
  TANDEM_ASSIGN_OR_RETURN(Engine * engine, tandem::engine::OpenEngine(engine_name));
  TANDEM_RETURN_IF_ERROR(tandem::engine::ReadPrepared(folder, *engine, options).status());
  return engine->Load(folder, options);
}

// `rows` samples from `first` on, as one run. The data set comes round again where it is short.
absl::Status AddRun(const tandem::data::Dataset& dataset, const TensorSignature& input, int64_t first, int rows,
                    wire::Samples* samples) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t elements, tandem::ElementCount(dataset.shape()));
  std::vector<float> values(static_cast<size_t>(rows * elements));
  for (int row = 0; row < rows; ++row) {
    int32_t label = 0;
    const std::span<float> out(values.data() + row * elements, static_cast<size_t>(elements));
    TANDEM_RETURN_IF_ERROR(dataset.Get((first + row) % dataset.size(), out, &label));
  }
  TensorSignature tensor = {input.name, input.dtype, dataset.shape()};
  tensor.shape.insert(tensor.shape.begin(), rows);
  wire::Sample* sample = samples->add_samples();
  sample->set_rows(rows);
  tandem::engine::AddTensor(tensor, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)},
                            sample);
  return absl::OkStatus();
}

absl::StatusOr<wire::Samples> FromDataset(const std::string& file, const std::vector<TensorSignature>& inputs,
                                          int batch) {
  wire::Dataset record;
  TANDEM_ASSIGN_OR_RETURN(std::string bytes, tandem::ReadFile(file));
  if (!record.ParseFromString(bytes)) return tandem::InvalidArgument("'", file, "' is no data set");
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<tandem::data::Dataset> dataset,
                          tandem::data::Open(record, tandem::data::Split::kVal));
  if (dataset->size() == 0) return tandem::InvalidArgument("data set '", record.name(), "' has no validation split");
  if (inputs.size() != 1 || inputs[0].dtype != tandem::DType::kFloat32) {
    return tandem::InvalidArgument("the model does not have one FP32 input alone");
  }
  TANDEM_ASSIGN_OR_RETURN(const int64_t row_elements, tandem::ElementCount(dataset->shape()));
  const int64_t row_bytes = row_elements * static_cast<int64_t>(sizeof(float));
  const int64_t room = tandem::engine::kMaxSampleBytes / std::max<int64_t>(row_bytes, 1) - tandem::engine::kSingleRuns;
  if (room < 1) return tandem::ResourceExhausted("one sample has ", row_bytes, " bytes");
  wire::Samples samples;
  samples.set_source(StrCat("validation split of ", record.name()));
  for (int i = 0; i < tandem::engine::kSingleRuns; ++i) {
    TANDEM_RETURN_IF_ERROR(AddRun(*dataset, inputs[0], i, 1, &samples));
  }
  const auto rows = static_cast<int>(std::min<int64_t>(batch, room));
  if (rows > 1) TANDEM_RETURN_IF_ERROR(AddRun(*dataset, inputs[0], 0, rows, &samples));
  return samples;
}

// The first that the model takes. The error is the last one's.
absl::StatusOr<wire::Samples> MadeSamples(LoadedModel& model, int batch) {
  absl::Status last;
  for (const int64_t inner : kInnerSizes) {
    absl::StatusOr<wire::Samples> samples = tandem::engine::MakeSamples(model.inputs(), batch, inner);
    last = samples.ok() ? tandem::engine::TrySamples(model, *samples) : samples.status();
    if (last.ok()) return samples;
  }
  return last;
}

}  // namespace

absl::Status WriteSamplesFor(const SamplesArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model,
                          Load(arguments.engine, arguments.folder, arguments.options));
  std::string why_made;
  if (!arguments.dataset.empty()) {
    absl::StatusOr<wire::Samples> samples = FromDataset(arguments.dataset, model->inputs(), arguments.batch);
    absl::Status taken = samples.ok() ? tandem::engine::TrySamples(*model, *samples) : samples.status();
    if (taken.ok()) return tandem::engine::WriteSamples(arguments.out, *samples);
    why_made = StrCat("; the job's data set cannot be used: ", tandem::MessageOf(taken).substr(0, 1000));
  }
  TANDEM_ASSIGN_OR_RETURN(wire::Samples made, MadeSamples(*model, arguments.batch));
  made.set_source(made.source() + why_made);
  return tandem::engine::WriteSamples(arguments.out, made);
}

absl::Status MeasureEngine(const MeasureArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model,
                          Load(arguments.engine, arguments.folder, arguments.options));
  TANDEM_ASSIGN_OR_RETURN(wire::Samples samples, tandem::engine::ReadSamples(arguments.samples));
  wire::Samples reference, outputs;
  if (!arguments.reference.empty()) {
    TANDEM_ASSIGN_OR_RETURN(reference, tandem::engine::ReadSamples(arguments.reference));
  }
  TANDEM_ASSIGN_OR_RETURN(
      wire::Measurement found,
      tandem::engine::Measure(*model, arguments.options, samples, arguments.reference.empty() ? nullptr : &reference,
                              arguments.outputs.empty() ? nullptr : &outputs));
  if (!arguments.outputs.empty()) {
    TANDEM_RETURN_IF_ERROR(tandem::engine::WriteSamples(arguments.outputs, outputs));
  }
  return tandem::engine::WriteJson(arguments.out, found);
}
