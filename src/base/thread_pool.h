// How is one loop shared between cores? A small pool: workers spin a little after a loop, then sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace dialo {

class ThreadPool {
 public:
  // `num_threads` counts the calling thread: a pool of 1 starts no thread at all, a larger one its others with the
  // first loop, so that a process may load a model and then fork.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return num_threads_; }

  // body(item, thread) for every item in [0, items), each exactly once; returns when all are done.
  // Items are handed out in order, one at a time, to whichever thread is free: make them large enough to be worth
  // an atomic increment. One loop at a time: callers take turns (the engine's lock).
  // What `body` throws first, in whichever thread, is thrown here once no thread works on the loop any more; items that
  // nobody had begun by then are skipped, and the pool is ready for the next loop.
  template <class Body>
  void parallel_for(int items, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(items, [](void* context, int item, int thread) { (*static_cast<Plain*>(context))(item, thread); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, int item, int thread);
  struct Shared;
  void run(int items, Call call, void* context);
  bool started() const;
  void start();

  int num_threads_;
  uint32_t fork_generation_ = 0;
  std::unique_ptr<Shared> shared_;  // null until the first loop
};

}  // namespace dialo
