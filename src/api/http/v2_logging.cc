// Open Inference Protocol v2: the extension logging.
#include "api/http/handlers.h"
#include "api/http/json_parameters.h"
#include "api/http/json_writer.h"
#include "api/v2/log_switches.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

Reply SwitchesReply(const v2::LogSwitches& switches) {
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginObject().Key("log_file").String("").Key("log_info").Bool(switches.info);
  json.Key("log_warning").Bool(switches.warning).Key("log_error").Bool(switches.error);
  json.Key("log_verbose_level").Number(switches.verbose).Key("log_format").String("default").EndObject();
  return reply;
}

}  // namespace

absl::StatusOr<Reply> GetLogging(const Services&, const Request&) {
  return SwitchesReply(v2::SwitchesOf(CurrentLogLevel()));
}

absl::StatusOr<Reply> PostLogging(const Services& services, const Request& request) {
  v2::LogSwitches switches = v2::SwitchesOf(CurrentLogLevel());
  TANDEM_RETURN_IF_ERROR(ForEachInBody(
      request.body, [&](auto key, const auto& value) { return v2::SetLogSwitch(key, value, &switches); }));
  TANDEM_ASSIGN_OR_RETURN(LogLevel level, v2::LevelOf(switches));
  TANDEM_RETURN_IF_ERROR(services.admin->SetLogLevel(request.caller, LogLevelName(level)));
  return SwitchesReply(v2::SwitchesOf(level));
}

}  // namespace tandem::api::http
