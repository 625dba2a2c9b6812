// ONNX's own node tests (onnx/backend/test/data/node of onnx 1.22), for every operator that the table knows.
#include <ATen/core/Tensor.h>
#include <ATen/ops/allclose.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <regex>
#include <set>

#include "base/strings.h"
#include "interpreter/interpreter.h"
#include "interpreter/values.h"
#include "onnx-ml.pb.h"

namespace tandem::interpreter {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kNewestOpset = 21;
constexpr int kLeastPassing = 600;

struct Skip {
  const char* pattern;  // of the whole name
  const char* reason;
};
constexpr Skip kSkips[] = {
    {"test_training_dropout(_default|_mask|_default_mask)?", "draws numpy's random numbers"},
    {"test_maxpool_with_argmax.*", "output Indices is not supported"},
    {"test_cast(like)?_.*(FLOAT8|FLOAT4|INT4|INT2|UINT4|UINT2|e8m0).*", "types below 16 bits that no trainer uses"},
    {"test_cast(like)?_.*STRING.*", "strings"},
    {"test_(equal|constant|identity)_.*string.*", "strings"},
    {"test_identity_(opt|sequence)", "sequences and optionals are no tensors"},
    {"test_(add|sub|mul|div|max|min|pow|greater|less|equal|mod|clip|bitshift)_.*uint(16|32|64).*",
     "LibTorch has no arithmetic for uint16, uint32 and uint64"},
};

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

const char* SkipReason(const std::string& name) {
  for (const Skip& skip : kSkips) {
    if (std::regex_match(name, std::regex(skip.pattern))) return skip.reason;
  }
  return nullptr;
}

// The operators' schemas beyond opset 21 differ in the types they allow, not in meaning, so the model is declared
// older.
std::string Lowered(onnx::ModelProto model) {
  for (auto& opset : *model.mutable_opset_import()) {
    if (opset.domain().empty()) opset.set_version(std::min<int64_t>(opset.version(), kNewestOpset));
  }
  model.set_ir_version(std::min<int64_t>(model.ir_version(), 10));
  return model.SerializeAsString();
}

at::Tensor ReadTensor(const fs::path& path) {
  auto tensor = graph::ReadTensorProto(ReadAll(path));
  if (!tensor.ok()) throw std::runtime_error(StrCat(path.string(), ": ", tensor.status().ToString()));
  return CopyToTensor(tensor->dtype, tensor->shape, tensor->bytes());
}

// "" if the output is what the test wants.
std::string Compare(const at::Tensor& got, const at::Tensor& want) {
  if (got.scalar_type() != want.scalar_type()) {
    return StrCat("type ", c10::toString(got.scalar_type()), ", not ", c10::toString(want.scalar_type()));
  }
  if (got.sizes() != want.sizes())
    return StrCat("shape ", ToString(got.sizes().vec()), ", not ", ToString(want.sizes().vec()));
  const bool close = at::isFloatingType(want.scalar_type())
                         ? at::allclose(got.to(at::kDouble), want.to(at::kDouble), 1e-3, 1e-7, true)
                         : got.to(at::kLong).equal(want.to(at::kLong));
  return close ? "" : "values differ";
}

std::string RunCase(const fs::path& folder, const graph::Graph& graph, bool channels_last) {
  Program::Options options;
  options.channels_last = channels_last;
  const auto program = Program::Create(graph, options);
  if (!program.ok()) return program.status().ToString();
  const fs::path data = folder / "test_data_set_0";
  std::vector<at::Tensor> inputs;
  for (size_t i = 0; i < graph.inputs().size(); ++i) inputs.push_back(ReadTensor(data / StrCat("input_", i, ".pb")));
  RunOptions run;
  run.training = folder.string().find("training") != std::string::npos;
  const auto outputs = program->Run(inputs, {}, run);
  if (!outputs.ok()) return outputs.status().ToString();
  for (size_t i = 0; i < outputs->size(); ++i) {
    const std::string difference = Compare((*outputs)[i], ReadTensor(data / StrCat("output_", i, ".pb")));
    if (!difference.empty()) return StrCat("output ", i, ": ", difference);
  }
  return "";
}

enum class Verdict { kPassed, kFailed, kSkipped, kOtherOperator };

Verdict Judge(const fs::path& folder, const std::set<std::string>& supported, std::map<std::string, int>* reasons) {
  const std::string name = folder.filename().string();
  onnx::ModelProto model;
  if (!model.ParseFromString(ReadAll(folder / "model.onnx"))) return Verdict::kFailed;
  for (const auto& node : model.graph().node()) {
    const bool known = (node.domain().empty() || node.domain() == "ai.onnx") && supported.contains(node.op_type());
    if (!known) return Verdict::kOtherOperator;
  }
  for (const auto& opset : model.opset_import()) {
    if (!opset.domain().empty() || opset.version() >= 11) continue;
    ++(*reasons)["opset below 11"];
    return Verdict::kSkipped;
  }
  if (const char* reason = SkipReason(name)) {
    ++(*reasons)[reason];
    return Verdict::kSkipped;
  }
  const auto graph = graph::Graph::Parse(Lowered(model), name);
  std::string problem = graph.ok() ? "" : graph.status().ToString();
  for (const bool channels_last : {false, true}) {
    if (problem.empty()) problem = RunCase(folder, *graph, channels_last);
  }
  if (problem.empty()) return Verdict::kPassed;
  ADD_FAILURE() << name << ": " << problem;
  return Verdict::kFailed;
}

TEST(OnnxNodeTests, PassForEveryOperatorOfTheTable) {
  const fs::path root = fs::path(TANDEM_SDK_DIR) / "onnx/backend/test/data/node";
  ASSERT_TRUE(fs::is_directory(root)) << root << " is missing: run scripts/setup";
  const std::vector<std::string> names = SupportedOperators();
  const std::set<std::string> supported(names.begin(), names.end());
  std::vector<fs::path> folders{fs::directory_iterator(root), {}};
  std::sort(folders.begin(), folders.end());
  std::map<Verdict, int> counts;
  std::map<std::string, int> reasons;
  for (const fs::path& folder : folders) ++counts[Judge(folder, supported, &reasons)];
  std::cout << counts[Verdict::kPassed] << " passed, " << counts[Verdict::kFailed] << " failed, "
            << counts[Verdict::kSkipped] << " skipped, " << counts[Verdict::kOtherOperator]
            << " of operators that the table has not\n";
  for (const auto& [reason, count] : reasons) std::cout << "  " << count << " skipped: " << reason << "\n";
  EXPECT_GE(counts[Verdict::kPassed], kLeastPassing);
}

}  // namespace
}  // namespace tandem::interpreter
