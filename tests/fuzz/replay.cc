// Runs a fuzz target without libFuzzer: every file of the corpus, then mutations of them for some seconds, the same
// ones each time. What any compiler can do in a test run; `scripts/fuzz` searches in earnest, guided by coverage.
//
// usage: fuzz_<name> CORPUS_FOLDER [SECONDS]
// The input of a crash is written to crash.bin in the working folder.
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kLongest = 1 << 16;
std::string current;  // what is being run

void Run(std::string input) {
  current = std::move(input);
  // A copy of exactly the size, so that a sanitizer sees a read behind it.
  std::vector<uint8_t> exact(current.begin(), current.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

void OnCrash(int signal) {
  int fd = open("crash.bin", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd >= 0 && write(fd, current.data(), current.size()) >= 0) close(fd);
  ::signal(signal, SIG_DFL);
  raise(signal);
}

// One small change: what parsers stumble over is a wrong length, a cut, a repeated or a foreign piece.
void Mutate(const std::vector<std::string>& seeds, std::mt19937_64& random, std::string* text) {
  auto below = [&](size_t n) { return n == 0 ? 0 : static_cast<size_t>(random() % n); };
  size_t at = below(text->size() + 1);
  switch (random() % 6) {
    case 0:
      if (at < text->size()) (*text)[at] = static_cast<char>(random());
      break;
    case 1:
      if (at < text->size()) (*text)[at] = static_cast<char>((*text)[at] ^ (1 << random() % 8));
      break;
    case 2:
      text->erase(at, below(16));
      break;
    case 3:
      text->insert(at, text->substr(below(text->size()), below(32)));
      break;
    case 4: {
      const std::string& other = seeds[below(seeds.size())];
      text->insert(at, other.substr(below(other.size()), below(64)));
      break;
    }
    default:
      text->resize(at);
  }
  if (text->size() > kLongest) text->resize(kLongest);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s CORPUS_FOLDER [SECONDS]\n", argv[0]);
    return 2;
  }
  for (int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL}) ::signal(signal, OnCrash);
  std::vector<std::string> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (seeds.empty()) {
    fprintf(stderr, "error: '%s' holds no inputs\n", argv[1]);
    return 1;
  }
  for (const std::string& seed : seeds) Run(seed);
  std::mt19937_64 random(1);
  size_t runs = seeds.size();
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(argc > 2 ? atof(argv[2]) : 2);
  while (std::chrono::steady_clock::now() < end) {
    std::string text = seeds[random() % seeds.size()];
    for (size_t changes = 1 + random() % 8; changes > 0; --changes) Mutate(seeds, random, &text);
    Run(std::move(text));
    ++runs;
  }
  printf("%zu inputs\n", runs);
}
