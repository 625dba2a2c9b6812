#pragma once
// The head of a request, and the pieces of a chunked body, parsed by Boost.Beast.
#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/http/body_buffer.h"
#include "api/http/request.h"

namespace tandem::api::http {

// What the server needs of a request's head. Its strings keep their memory from request to request.
struct Head {
  Verb verb = Verb::kOther;
  int version = 11;  // 10 or 11
  std::string target, host, origin, authorization, content_encoding, transfer_encoding, accept_encoding;
  std::string request_id;  // X-Request-Id, as the client sent it; "" if none or longer than 128
  std::string route_key;   // X-Route-Key, likewise
  std::string traceparent, tracestate;
  int host_count = 0;
  bool has_origin = false;
  bool expect_continue = false;
  bool bad_tensor_header = false;  // the length header is no number
  std::optional<int64_t> tensor_header_bytes;
  void Clear();
};

// One request's parser: after a non-eager put() that gives no error the head is complete; chunks are appended to the
// body when it is fed on. Thread-compatible; not reusable (Beast).
class HeadParser : public boost::beast::http::basic_parser<true> {
 public:
  HeadParser(Head* head, BodyBuffer* body) : head_(head), body_(body) {}

 private:
  using Text = boost::beast::string_view;
  using Error = boost::beast::error_code;

  void on_request_impl(boost::beast::http::verb verb, Text verb_text, Text target, int version, Error& error) override;
  void on_response_impl(int, Text, int, Error&) override {}
  void on_field_impl(boost::beast::http::field field, Text name, Text value, Error& error) override;
  void on_header_impl(Error&) override {}
  void on_body_init_impl(boost::optional<uint64_t> const&, Error&) override {}
  std::size_t on_body_impl(Text, Error&) override { return 0; }
  void on_chunk_header_impl(uint64_t, Text, Error&) override {}
  std::size_t on_chunk_body_impl(uint64_t, Text piece, Error&) override;
  void on_finish_impl(Error&) override {}

  Head* head_;
  BodyBuffer* body_;
};

}  // namespace tandem::api::http
