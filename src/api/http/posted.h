#pragma once

namespace tandem::api::http {

// Something to run on a data-plane thread, handed over without a lock and without memory of its own: in one list at a
// time.
class Posted {
 public:
  virtual ~Posted() = default;
  virtual void Run() = 0;

  Posted* next_posted = nullptr;  // the list's
};

}  // namespace tandem::api::http
