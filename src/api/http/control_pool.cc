#include "api/http/control_pool.h"

#include <errno.h>
#include <pthread.h>

namespace tandem::api::http {

ControlPool::ControlPool(std::string name, int threads) : name_(std::move(name)), thread_count_(threads) {
  sem_init(&ready_, 0, 0);
}

ControlPool::~ControlPool() {
  Stop();
  sem_destroy(&ready_);
}

void ControlPool::Start() {
  for (int i = 0; i < thread_count_; ++i) threads_.emplace_back([this] { Run(); });
}

bool ControlPool::Submit(ControlWork* work) {
  if (!queue_.push(work)) return false;
  sem_post(&ready_);
  return true;
}

void ControlPool::Run() {
  pthread_setname_np(pthread_self(), name_.c_str());
  while (true) {
    while (sem_wait(&ready_) != 0 && errno == EINTR) {
    }
    ControlWork* work = nullptr;
    if (queue_.pop(work)) {
      work->RunOnPool();
    } else if (stopping_.load()) {
      return;
    }
  }
}

void ControlPool::Stop() {
  stopping_.store(true);
  for (size_t i = 0; i < threads_.size(); ++i) sem_post(&ready_);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace tandem::api::http
