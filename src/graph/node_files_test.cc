// ONNX's own test files: all parse, or give an error that says what is not supported.
#include <algorithm>
#include <filesystem>

#include "base/files.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "graph/graph.h"
#include "gtest/gtest.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> NodeFolders() {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(TANDEM_SDK_DIR "/onnx/backend/test/data/node", error)) {
    folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

TEST(NodeFiles, AllParseOrSayWhatIsNotSupported) {
  const std::vector<fs::path> folders = NodeFolders();
  if (folders.empty()) GTEST_SKIP() << "ONNX's node tests are not installed";
  int parsed = 0;
  for (const fs::path& folder : folders) {
    const absl::StatusOr<std::string> bytes = ReadFile(folder / "model.onnx");
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    const absl::StatusOr<Graph> graph = Graph::Load(folder / "model.onnx");
    if (!graph.ok()) {
      EXPECT_EQ(graph.status().code(), absl::StatusCode::kUnimplemented) << graph.status();
      continue;
    }
    ++parsed;
    EXPECT_EQ(graph->bytes(), *bytes);
    EXPECT_TRUE(Summarise(*graph).ok());
    EXPECT_TRUE(graph->Unshared({}).ok());
    std::map<std::string, std::string> same;
    for (const auto& initializer : graph->initializers()) same[initializer.name] = std::string(initializer.data);
    EXPECT_EQ(*graph->Splice(same), *bytes) << folder;
  }
  EXPECT_GE(parsed, static_cast<int>(folders.size()) / 2);
}

TEST(NodeFiles, TensorsAreReadAndWrittenBackEqual) {
  int read = 0;
  for (const fs::path& folder : NodeFolders()) {
    if (!Graph::Load(folder / "model.onnx").ok()) continue;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.path().extension() != ".pb") continue;
      const absl::StatusOr<std::string> bytes = ReadFile(entry.path());
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      const absl::StatusOr<Tensor> tensor = ReadTensorProto(*bytes);
      ASSERT_TRUE(tensor.ok()) << entry.path() << ": " << tensor.status();
      const absl::StatusOr<Tensor> again = ReadTensorProto(WriteTensorProto(*tensor));
      ASSERT_TRUE(again.ok()) << entry.path() << ": " << again.status();
      EXPECT_EQ(again->bytes(), tensor->bytes()) << entry.path();
      EXPECT_EQ(again->shape, tensor->shape) << entry.path();
      ++read;
    }
  }
  if (read == 0) GTEST_SKIP() << "ONNX's node tests are not installed";
}

}  // namespace
}  // namespace tandem::graph
