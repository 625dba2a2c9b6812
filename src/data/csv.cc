// CSV: a header, numeric feature columns, one label column.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <type_traits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "data/arrays.h"
#include "data/csv_reader.h"
#include "data/formats.h"

namespace tandem::data {
namespace fs = std::filesystem;

namespace {

bool Matches(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return !FirstFile(path, {"train.csv"}).empty();
  const std::string extension = path.extension().string();
  return extension == ".csv" || extension == ".tsv" || extension == ".CSV";
}

absl::StatusOr<std::vector<SplitFile>> List(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return std::vector<SplitFile>{{Split::kTrain, path.filename().string()}};
  if (FirstFile(path, {"train.csv"}).empty()) {
    return NotFound("'", path.string(), "' has no train.csv; give that folder, or one .csv file");
  }
  std::vector<SplitFile> files = {{Split::kTrain, "train.csv"}};
  for (auto [split, name] : {std::pair{Split::kVal, "val.csv"}, std::pair{Split::kTest, "test.csv"}}) {
    if (!FirstFile(path, {name}).empty()) files.push_back({split, name});
  }
  return files;
}

std::string_view Trim(std::string_view text) { return StdView(absl::StripAsciiWhitespace(AbslView(text))); }

template <typename T>
bool ParseNumber(std::string_view text, T* value) {
  text = Trim(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  if (end != text.data() + text.size()) return false;
  if constexpr (std::is_floating_point_v<T>) {
    // Too near to 0 for a float, or too far from it: this reads the former as 0 and the latter as infinity.
    if (error == std::errc::result_out_of_range) return absl::SimpleAtof(AbslView(text), value);
  }
  return error == std::errc();
}

absl::StatusOr<size_t> FindLabelColumn(const std::vector<std::string>& header, const std::string& wanted) {
  auto find = [&](std::string_view name) {
    auto at = std::find_if(header.begin(), header.end(), [&](const std::string& h) { return Trim(h) == name; });
    return static_cast<size_t>(at - header.begin());
  };
  if (!wanted.empty()) {
    const size_t at = find(wanted);
    if (at < header.size()) return at;
    return NotFound("row 1: no column '", wanted, "' for the label", DidYouMean(wanted, header));
  }
  for (std::string_view usual : {"label", "class", "target"}) {
    if (find(usual) < header.size()) return find(usual);
  }
  return header.size() - 1;
}

// Collects rows, then turns them into a data set.
class Table {
 public:
  Table(std::string file, const wire::Dataset& info) : file_(std::move(file)), info_(info) {}

  absl::Status ReadHeader(const std::vector<std::string>& header) {
    header_ = header;
    if (header_.size() < 2) return InvalidArgument("row 1: needs a label column and at least one feature column");
    for (const std::string& name : header_) {
      if (!IsUtf8(name)) return InvalidArgument("row 1: a column's name is not UTF-8; save the file as UTF-8");
    }
    TANDEM_ASSIGN_OR_RETURN(label_column_, FindLabelColumn(header_, info_.label_column()));
    return absl::OkStatus();
  }

  absl::Status AddRow(const std::vector<std::string>& fields, int64_t row) {
    if (fields.size() != header_.size()) {
      return InvalidArgument("row ", row, ": has ", fields.size(), " fields, the header has ", header_.size());
    }
    for (size_t column = 0; column < fields.size(); ++column) {
      if (column == label_column_) continue;
      float value = 0;
      if (!ParseNumber(fields[column], &value) || !std::isfinite(value)) {
        return InvalidArgument(Where(row, column), ": '", fields[column], "' is not a finite number");
      }
      values_.push_back(value);
    }
    return AddLabel(std::string(Trim(fields[label_column_])), row);
  }

  absl::StatusOr<Loaded> Finish() {
    std::vector<std::string> names(info_.class_names().begin(), info_.class_names().end());
    std::vector<int32_t> labels(numbers_.begin(), numbers_.end());
    if (!numeric_) {
      TANDEM_RETURN_IF_ERROR(NumberTexts(&names, &labels));
    }
    int64_t classes = numeric_ ? CountClasses(labels, info_.classes()) : static_cast<int64_t>(names.size());
    Shape shape = {static_cast<int64_t>(header_.size()) - 1};
    return Loaded{MakeFloatDataset(std::move(values_), shape, std::move(labels), classes), std::move(names),
                  std::string(Trim(header_[label_column_]))};
  }

 private:
  std::string Where(int64_t row, size_t column) const {
    return StrCat("row ", row, ", column '", Trim(header_[column]), "'");
  }

  // The first label decides whether labels are numbers or names; a later one that does not fit is a mistake.
  absl::Status AddLabel(std::string text, int64_t row) {
    int64_t number = 0;
    const bool is_number = ParseNumber(text, &number);
    if (rows_.empty()) numeric_ = is_number && info_.class_names().empty();
    rows_.push_back(row);
    if (text.empty()) return InvalidArgument(Where(row, label_column_), ": the label is empty");
    if (!IsUtf8(text)) return InvalidArgument(Where(row, label_column_), ": the label is not UTF-8");
    if (!numeric_) {
      texts_.push_back(std::move(text));
      return absl::OkStatus();
    }
    if (!is_number) {
      return InvalidArgument(Where(row, label_column_), ": '", text,
                             "' is not a class number, as the labels above are");
    }
    absl::StatusOr<int32_t> label = CheckLabel(file_, static_cast<int64_t>(rows_.size()) - 1, number, info_.classes());
    if (!label.ok()) return InvalidArgument(Where(row, label_column_), ": ", MessageOf(label.status()));
    numbers_.push_back(*label);
    return absl::OkStatus();
  }

  absl::Status NumberTexts(std::vector<std::string>* names, std::vector<int32_t>* labels) const {
    if (names->empty()) {
      *names = texts_;
      std::sort(names->begin(), names->end());
      names->erase(std::unique(names->begin(), names->end()), names->end());
    }
    if (static_cast<int64_t>(names->size()) > kMaxClasses) {
      return InvalidArgument("column '", Trim(header_[label_column_]), "' has ", names->size(),
                             " different texts; is it really the label?");
    }
    std::map<std::string_view, int32_t> number;
    for (const std::string& name : *names) number.emplace(name, static_cast<int32_t>(number.size()));
    for (size_t i = 0; i < texts_.size(); ++i) {
      auto found = number.find(texts_[i]);
      if (found == number.end()) {
        return InvalidArgument(Where(rows_[i], label_column_), ": class '", texts_[i], "' does not occur in train",
                               DidYouMean(texts_[i], *names));
      }
      labels->push_back(found->second);
    }
    return absl::OkStatus();
  }

  const std::string file_;
  const wire::Dataset& info_;
  std::vector<std::string> header_;
  size_t label_column_ = 0;
  bool numeric_ = false;
  std::vector<float> values_;
  std::vector<int64_t> rows_;
  std::vector<int32_t> numbers_;    // numeric
  std::vector<std::string> texts_;  // else
};

// The columns of train, which the other files must have as well.
absl::StatusOr<std::vector<std::string>> ReadTrainHeader(const LoadRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(std::string text,
                          ReadDataFile(PathOf(request.info, FilesOf(request.files, Split::kTrain)[0])));
  std::vector<std::string> header;
  TANDEM_RETURN_IF_ERROR(CsvReader(text).Next(&header).status());
  return header;
}

absl::StatusOr<Loaded> Parse(std::string_view text, const std::string& file, const LoadRequest& request) {
  CsvReader reader(text);
  Table table(file, request.info);
  std::vector<std::string> fields;
  TANDEM_ASSIGN_OR_RETURN(bool more, reader.Next(&fields));
  if (!more) return InvalidArgument("is empty; it needs a header row and data");
  if (request.split != Split::kTrain) {
    TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> header, ReadTrainHeader(request));
    if (fields != header) return InvalidArgument("row 1: the columns are not those of train.csv, in the same order");
  }
  TANDEM_RETURN_IF_ERROR(table.ReadHeader(fields));
  while (true) {
    TANDEM_ASSIGN_OR_RETURN(more, reader.Next(&fields));
    if (!more) return table.Finish();
    TANDEM_RETURN_IF_ERROR(table.AddRow(fields, reader.row()));
  }
}

absl::StatusOr<Loaded> Load(const LoadRequest& request) {
  const fs::path path = PathOf(request.info, FilesOf(request.files, request.split)[0]);
  TANDEM_ASSIGN_OR_RETURN(std::string text, ReadDataFile(path));
  absl::StatusOr<Loaded> loaded = Parse(text, path.filename().string(), request);
  if (!loaded.ok()) return Annotate(loaded.status(), StrCat("'", path.string(), "'"));
  return loaded;
}

}  // namespace

const Format kCsvFormat = {"csv", "a .csv file, or a folder with train.csv", Matches, List, Load};

}  // namespace tandem::data
