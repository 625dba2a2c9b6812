#pragma once
// The mutex of the data plane: whoever holds it inherits the priority of whoever waits, so that a thread of normal
// class that was preempted while it held it does not keep a real-time thread waiting for long.
#include <pthread.h>

namespace tandem::serving {

// A BasicLockable, for std::lock_guard. What it protects is a few pointers: it is never held over a call of an engine,
// an allocation of a request's size, or a callback.
class PiMutex {
 public:
  PiMutex() {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);  // where it cannot, it is a plain one
    pthread_mutex_init(&mutex_, &attributes);
    pthread_mutexattr_destroy(&attributes);
  }
  ~PiMutex() { pthread_mutex_destroy(&mutex_); }
  PiMutex(const PiMutex&) = delete;
  PiMutex& operator=(const PiMutex&) = delete;

  void lock() { pthread_mutex_lock(&mutex_); }
  void unlock() { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_;
};

}  // namespace tandem::serving
