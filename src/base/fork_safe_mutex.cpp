#include "base/fork_safe_mutex.h"

#include <algorithm>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace dialo {
namespace {

// Every ForkSafeMutex of the process, in the order in which they are taken.
struct Registry {
  std::mutex lock;
  std::vector<std::pair<LockRank, ForkSafeMutex*>> all;

  void before_fork() {
    lock.lock();
    for (const auto& [rank, mutex] : all) mutex->lock();
  }
  // In the parent and in the child: the thread that forked is the one that holds them, in both.
  void after_fork() {
    for (auto entry = all.rbegin(); entry != all.rend(); ++entry) entry->second->unlock();
    lock.unlock();
  }
};

Registry& registry() {
  static Registry* const registry = [] {
    auto* made = new Registry;  // never destroyed: threads may still use their locks while the process exits
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork([] { dialo::registry().before_fork(); }, [] { dialo::registry().after_fork(); },
                   [] { dialo::registry().after_fork(); });
#endif
    return made;
  }();
  return *registry;
}

}  // namespace

ForkSafeMutex::ForkSafeMutex(LockRank rank) {
  Registry& r = registry();
  const std::lock_guard guard(r.lock);
  const auto after = std::upper_bound(r.all.begin(), r.all.end(), rank,
                                       [](LockRank wanted, const auto& entry) { return wanted < entry.first; });
  r.all.insert(after, {rank, this});
}

ForkSafeMutex::~ForkSafeMutex() {
  Registry& r = registry();
  const std::lock_guard guard(r.lock);
  std::erase_if(r.all, [this](const auto& entry) { return entry.second == this; });
}

}  // namespace dialo
