// The head of an HTTP request and a chunked body, the path and its parameters.
#include <stddef.h>
#include <stdint.h>

#include <boost/asio/buffer.hpp>
#include <string_view>

#include "api/http/head_parser.h"
#include "api/http/router.h"

using namespace tandem::api::http;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Head head;
  BodyBuffer body;
  HeadParser parser(&head, &body);
  parser.eager(false);
  boost::beast::error_code error;
  size_t used = parser.put(boost::asio::buffer(data, size), error);
  if (error || !parser.is_header_done()) return 0;
  static const Router* const router = new Router;
  PathParams params;
  std::string_view target = head.target;
  (void)router->Find(head.verb, target.substr(0, target.find('?')), false, &params);
  if (!parser.chunked()) return 0;
  parser.eager(true);
  while (used < size && !parser.is_done() && !error) {
    size_t more = parser.put(boost::asio::buffer(data + used, size - used), error);
    if (more == 0) break;
    used += more;
  }
  return 0;
}
