#include "api/http/json_writer.h"

#include "base/text.h"

namespace tandem::api::http {

JsonWriter& JsonWriter::Open(char bracket) {
  Separate();
  out_->push_back(bracket);
  need_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::Close(char bracket) {
  out_->push_back(bracket);
  need_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Key(std::string_view key) {
  Separate();
  AppendQuoted(key);
  out_->push_back(':');
  need_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::String(std::string_view text) {
  Separate();
  AppendQuoted(text);
  return *this;
}

JsonWriter& JsonWriter::Raw(std::string_view json) {
  Separate();
  out_->append(json);
  return *this;
}

void JsonWriter::AppendQuoted(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  const bool utf8 = IsUtf8(text);
  out_->push_back('"');
  size_t plain = 0;  // what is not written yet begins here, and needs no change up to i
  for (size_t i = 0; i < text.size(); ++i) {
    auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f && (byte < 0x80 || utf8)) continue;
    out_->append(text.substr(plain, i - plain));
    plain = i + 1;
    if (byte == '"' || byte == '\\') {
      out_->push_back('\\');
      out_->push_back(text[i]);
    } else if (byte == '\n') {
      out_->append("\\n");
    } else if (byte >= 0x80) {
      out_->push_back('?');
    } else {
      out_->append("\\u00");
      out_->push_back(kHex[byte >> 4]);
      out_->push_back(kHex[byte & 15]);
    }
  }
  out_->append(text.substr(plain));
  out_->push_back('"');
}

}  // namespace tandem::api::http
