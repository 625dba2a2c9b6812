#include "api/http/head_parser.h"

#include <charconv>

#include "base/strings.h"

namespace tandem::api::http {
namespace {

namespace beast = boost::beast;
constexpr std::string_view kTensorHeader = "inference-header-content-length";
constexpr size_t kMostRequestId = 128;

Verb VerbOf(beast::http::verb verb) {
  switch (verb) {
    case beast::http::verb::get:
      return Verb::kGet;
    case beast::http::verb::post:
      return Verb::kPost;
    case beast::http::verb::put:
      return Verb::kPut;
    case beast::http::verb::delete_:
      return Verb::kDelete;
    default:
      return Verb::kOther;
  }
}

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

// A header that is sent twice is one list.
void AppendToList(beast::string_view value, std::string* list) {
  StrAppend(list, list->empty() ? "" : ",", View(value));
}

}  // namespace

void Head::Clear() {
  verb = Verb::kOther;
  version = 11;
  for (std::string* text : {&target, &host, &origin, &authorization, &content_encoding, &transfer_encoding,
                            &accept_encoding, &request_id, &route_key, &traceparent, &tracestate}) {
    text->clear();
  }
  host_count = 0;
  has_origin = expect_continue = bad_tensor_header = false;
  tensor_header_bytes.reset();
}

void HeadParser::on_request_impl(beast::http::verb verb, Text, Text target, int version, Error&) {
  head_->verb = VerbOf(verb);
  head_->version = version;
  head_->target = View(target);
}

void HeadParser::on_field_impl(beast::http::field field, Text name, Text value, Error&) {
  using Field = beast::http::field;
  switch (field) {
    case Field::host:
      ++head_->host_count;
      head_->host = View(value);
      break;
    case Field::origin:
      head_->has_origin = true;
      head_->origin = View(value);
      break;
    case Field::authorization:
      head_->authorization = View(value);
      break;
    case Field::content_encoding:
      AppendToList(value, &head_->content_encoding);
      break;
    case Field::transfer_encoding:
      AppendToList(value, &head_->transfer_encoding);
      break;
    case Field::accept_encoding:
      AppendToList(value, &head_->accept_encoding);
      break;
    case Field::expect:
      head_->expect_continue = beast::iequals(value, "100-continue");
      break;
    case Field::unknown:
      if (name.size() == kTensorHeader.size() && beast::iequals(name, beast::string_view(kTensorHeader))) {
        int64_t bytes = -1;
        auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), bytes);
        head_->bad_tensor_header = error != std::errc() || end != value.data() + value.size() || bytes < 0;
        head_->tensor_header_bytes = bytes;
      } else if (value.size() <= kMostRequestId && beast::iequals(name, "x-request-id")) {
        head_->request_id = View(value);
      } else if (value.size() <= kMostRequestId && beast::iequals(name, "x-route-key")) {
        head_->route_key = View(value);
      } else if (beast::iequals(name, "traceparent")) {
        AppendToList(value, &head_->traceparent);  // a list is no context: who sent two is not believed
      } else if (beast::iequals(name, "tracestate")) {
        AppendToList(value, &head_->tracestate);
      }
      break;
    default:
      break;
  }
}

std::size_t HeadParser::on_chunk_body_impl(uint64_t, Text piece, Error&) {
  body_->Append(View(piece));
  return piece.size();
}

}  // namespace tandem::api::http
