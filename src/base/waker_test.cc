#include "base/waker.h"

#include <gtest/gtest.h>

#include <thread>

namespace tandem {
namespace {

TEST(Waker, ASignalEndsAWaitAndAWaitEndsByItself) {
  Waker waker;
  const uint32_t seen = waker.Read();
  waker.Wait(seen, 1'000'000);
  std::thread signaller([&] { waker.Signal(); });
  while (waker.Read() == seen) waker.Wait(seen);
  signaller.join();
  waker.Wait(seen) /* returns at once */;
}

}  // namespace
}  // namespace tandem
