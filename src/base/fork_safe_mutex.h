// How does a lock survive fork()? Whoever forks takes it first, so the child inherits it free and what it guards whole.
#pragma once

#include <mutex>

namespace dialo {

// In which order locks are taken, by everybody: a thread that holds one may take only a later one. Two of the same
// rank are never held together.
enum class LockRank { kEngine, kPagePool };

// A std::mutex for which fork() waits, so that a child can go on with what its parent has made: a lock that another
// thread held at that moment would stay locked for ever, with a step half done.
// To be made and destroyed by a thread that holds none of them.
class ForkSafeMutex {
 public:
  explicit ForkSafeMutex(LockRank rank);
  ~ForkSafeMutex();
  ForkSafeMutex(const ForkSafeMutex&) = delete;
  ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

}  // namespace dialo
