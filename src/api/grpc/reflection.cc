// grpc.reflection.v1 and v1alpha: what the server serves, from the descriptors of its messages. All of it is looked up
// once, so that calls only read.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <map>
#include <set>

#include "api/grpc/method.h"
#include "api/grpc/stream_call.h"
#include "base/status.h"
#include "reflection.pb.h"

namespace tandem::api::rpc {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FileDescriptor;
using ::grpc::reflection::v1::ServerReflectionRequest;
using ::grpc::reflection::v1::ServerReflectionResponse;

constexpr std::string_view kPaths[] = {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                       "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};

// Immutable once built; thread-safe then.
class Catalogue {
 public:
  void AddService(std::string_view name) {
    const auto* service = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(std::string(name));
    // v1alpha has no descriptor of its own here: tools that speak it know it.
    if (service != nullptr && services_.insert(service->full_name()).second) AddFile(service->file());
  }
  const std::set<std::string>& services() const { return services_; }

  // False when there is no such file or symbol. Adds the file and those that it imports.
  bool File(const std::string& name, ServerReflectionResponse* response) const {
    auto found = files_.find(name);
    if (found == files_.end()) return false;
    std::vector<std::string> pending = {name};
    std::set<std::string> seen(pending.begin(), pending.end());
    for (size_t i = 0; i < pending.size(); ++i) {
      const Known& file = files_.at(pending[i]);
      response->mutable_file_descriptor_response()->add_file_descriptor_proto(file.bytes);
      for (const std::string& import : file.imports) {
        if (seen.insert(import).second) pending.push_back(import);
      }
    }
    return true;
  }
  bool Symbol(const std::string& name, ServerReflectionResponse* response) const {
    auto found = symbols_.find(name);
    return found != symbols_.end() && File(found->second, response);
  }
  bool HasMessage(const std::string& name) const { return messages_.contains(name); }

 private:
  struct Known {
    std::string bytes;
    std::vector<std::string> imports;
  };

  void AddFile(const FileDescriptor* file) {
    if (files_.contains(file->name())) return;
    google::protobuf::FileDescriptorProto proto;
    file->CopyTo(&proto);
    Known& known = files_[file->name()];
    known.bytes = proto.SerializeAsString();
    for (int i = 0; i < file->dependency_count(); ++i) known.imports.push_back(file->dependency(i)->name());
    for (int i = 0; i < file->message_type_count(); ++i) AddMessage(file->message_type(i));
    for (int i = 0; i < file->enum_type_count(); ++i) symbols_[file->enum_type(i)->full_name()] = file->name();
    for (int i = 0; i < file->service_count(); ++i) {
      symbols_[file->service(i)->full_name()] = file->name();
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        symbols_[file->service(i)->method(j)->full_name()] = file->name();
      }
    }
    for (int i = 0; i < file->dependency_count(); ++i) AddFile(file->dependency(i));
  }

  void AddMessage(const Descriptor* message) {
    messages_.insert(message->full_name());
    symbols_[message->full_name()] = message->file()->name();
    for (int i = 0; i < message->enum_type_count(); ++i) {
      symbols_[message->enum_type(i)->full_name()] = message->file()->name();
    }
    for (int i = 0; i < message->nested_type_count(); ++i) AddMessage(message->nested_type(i));
  }

  std::set<std::string> services_, messages_;
  std::map<std::string, Known> files_;
  std::map<std::string, std::string> symbols_;  // -> file
};

bool Answer(const Catalogue& catalogue, const ServerReflectionRequest& request, ServerReflectionResponse* response) {
  switch (request.message_request_case()) {
    case ServerReflectionRequest::kListServices:
      for (const std::string& name : catalogue.services()) {
        response->mutable_list_services_response()->add_service()->set_name(name);
      }
      return true;
    case ServerReflectionRequest::kFileByFilename:
      return catalogue.File(request.file_by_filename(), response);
    case ServerReflectionRequest::kFileContainingSymbol:
      return catalogue.Symbol(request.file_containing_symbol(), response);
    case ServerReflectionRequest::kAllExtensionNumbersOfType:
      // Nothing here has extensions.
      response->mutable_all_extension_numbers_response()->set_base_type_name(request.all_extension_numbers_of_type());
      return catalogue.HasMessage(request.all_extension_numbers_of_type());
    default:
      return false;
  }
}

class Info : public StreamCall {
 public:
  Info(IoGroup* group, size_t method, std::shared_ptr<const Catalogue> catalogue)
      : StreamCall(group, method), catalogue_(std::move(catalogue)) {}

 private:
  struct Reply : public Item {
    const ::grpc::ByteBuffer& bytes() const override { return buffer; }
    void Sent() override { delete this; }
    ::grpc::ByteBuffer buffer;
  };

  void Received(::grpc::ByteBuffer* message) override {
    ServerReflectionRequest request;
    ServerReflectionResponse response;
    Hold();
    absl::Status parsed = ParseMessage(message, &request);
    if (!parsed.ok()) return Drop(parsed);
    response.set_valid_host(request.host());
    *response.mutable_original_request() = request;
    if (!Answer(*catalogue_, request, &response)) {
      auto* error = response.mutable_error_response();
      error->set_error_code(static_cast<int>(absl::StatusCode::kNotFound));
      error->set_error_message("this server has no such file, symbol or extension");
    }
    auto* reply = new Reply;
    WriteMessage(response, &reply->buffer);
    Send(reply);
  }

  const std::shared_ptr<const Catalogue> catalogue_;
};

}  // namespace

std::vector<Method> ReflectionMethods(const std::vector<Method>& all) {
  auto catalogue = std::make_shared<Catalogue>();
  for (const Method& method : all) catalogue->AddService(ServiceOf(method.path));
  catalogue->AddService(ServiceOf(kPaths[0]));
  std::vector<Method> methods;
  for (std::string_view path : kPaths) {
    Method& method = methods.emplace_back();
    method.path = path;
    method.stream = [catalogue](IoGroup* group, size_t index) {
      return std::make_unique<Info>(group, index, catalogue);
    };
  }
  return methods;
}

}  // namespace tandem::api::rpc
