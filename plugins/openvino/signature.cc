#include "signature.h"

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace tandem_openvino {
namespace {

constexpr const char* kHeader = "tandem-openvino 1";
constexpr std::string_view kDevice = "device ";  // absent in folders of the first versions: CPU

void WriteLine(std::ostream& file, const char* kind, const tandem_signature& tensor) {
  file << kind << " " << tensor.dtype << " " << tensor.rank;
  for (int i = 0; i < tensor.rank; ++i) file << " " << tensor.shape[i];
  file << " " << tensor.name << "\n";
}

}  // namespace

void Signature::Add(bool is_output, const std::string& name, tandem_signature tensor) {
  tensor.name = names_.emplace_back(name).c_str();
  (is_output ? outputs : inputs).push_back(tensor);
}

void WriteSignature(const std::filesystem::path& path, const Signature& signature) {
  std::ofstream file(path);
  file << kHeader << "\n" << kDevice << signature.device << "\n";
  for (const tandem_signature& tensor : signature.inputs) WriteLine(file, "input", tensor);
  for (const tandem_signature& tensor : signature.outputs) WriteLine(file, "output", tensor);
  if (!file.flush()) throw std::runtime_error("cannot write '" + path.string() + "'");
}

Signature ReadSignature(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line) || line != kHeader) {
    throw std::runtime_error("'" + path.string() + "' was not written by this plug-in; prepare the model again");
  }
  Signature signature;
  while (std::getline(file, line)) {
    if (line.starts_with(kDevice)) {
      signature.device = line.substr(kDevice.size());
      continue;
    }
    std::istringstream words(line);
    std::string kind, name;
    tandem_signature tensor{};
    words >> kind >> tensor.dtype >> tensor.rank;
    if (!words || tensor.rank < 0 || tensor.rank > TANDEM_ENGINE_MAX_RANK) words.setstate(std::ios::failbit);
    for (int i = 0; words && i < tensor.rank; ++i) words >> tensor.shape[i];
    words.get();
    if (!words || !std::getline(words, name)) throw std::runtime_error("'" + path.string() + "' is damaged: " + line);
    signature.Add(kind == "output", name, tensor);
  }
  return signature;
}

}  // namespace tandem_openvino
