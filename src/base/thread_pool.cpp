#include "base/thread_pool.h"

#include <exception>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace dialo {
namespace {

// Long enough to bridge the gap between two loops of a step and the host's work between two steps,
// short enough that an idle process shows 0 % CPU.
constexpr int kSpins = 4000;

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Threads do not survive fork(): the child sees a new generation and starts its own.
std::atomic<uint32_t> fork_generation{0};

void watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { fork_generation.fetch_add(1, std::memory_order_relaxed); });
  (void)registered;
#endif
}

}  // namespace

// `gate` = loop number << 16 | open << 15 | workers inside. A worker enters only while the loop is open, so the
// caller never waits for a worker that is still asleep: it finishes the items itself and closes the gate.
struct ThreadPool::Shared {
  static constexpr uint64_t kOpen = 1u << 15;
  static constexpr uint64_t kInside = kOpen - 1;

  alignas(64) std::atomic<uint64_t> gate{0};
  alignas(64) std::atomic<uint32_t> bell{0};  // what sleeping workers wait on
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<int> next{0};
  int items = 0;
  Call call = nullptr;
  void* context = nullptr;
  std::atomic<bool> failed{false};
  std::exception_ptr error;  // of whoever set `failed`; the caller reads it once nobody is inside
  std::vector<std::thread> threads;

  void take_items(int thread) noexcept {
    try {
      for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;) call(context, i, thread);
    } catch (...) {
      next.store(items, std::memory_order_relaxed);
      if (!failed.exchange(true, std::memory_order_relaxed)) error = std::current_exception();
    }
  }

  bool enter(uint64_t seen) {
    while (seen & kOpen) {
      if (gate.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void work(int thread) {
    uint64_t done = 0;  // number of the last loop that this worker looked at
    while (true) {
      const uint32_t heard = bell.load(std::memory_order_acquire);
      uint64_t seen = gate.load(std::memory_order_acquire);
      for (int spin = 0; (seen >> 16) == done && spin < kSpins; ++spin) {
        pause();
        seen = gate.load(std::memory_order_acquire);
      }
      if (stop.load(std::memory_order_acquire)) return;
      if ((seen >> 16) == done) {
        bell.wait(heard, std::memory_order_acquire);
        continue;
      }
      if (enter(seen)) {
        take_items(thread);
        gate.fetch_sub(1, std::memory_order_release);
      }
      done = seen >> 16;
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads < 1 ? 1 : num_threads) {
  watch_forks();
}

bool ThreadPool::started() const {
  return shared_ && fork_generation_ == fork_generation.load(std::memory_order_relaxed);
}

void ThreadPool::start() {
  shared_.release();  // null, or the parent's: joining or destroying its threads here would hang or terminate
  fork_generation_ = fork_generation.load(std::memory_order_relaxed);
  auto fresh = std::make_unique<Shared>();
  fresh->threads.reserve(num_threads_ - 1);
  shared_ = std::move(fresh);
  for (int t = 1; t < num_threads_; ++t) {
    try {
      shared_->threads.emplace_back([shared = shared_.get(), t] { shared->work(t); });
    } catch (const std::system_error&) {
      break;  // the system grants no more threads: every loop is still finished, by fewer
    } catch (const std::bad_alloc&) {
      break;
    }
  }
}

ThreadPool::~ThreadPool() {
  if (!started()) {
    shared_.release();
    return;
  }
  shared_->stop.store(true, std::memory_order_release);
  shared_->bell.fetch_add(1, std::memory_order_release);
  shared_->bell.notify_all();
  for (std::thread& thread : shared_->threads) thread.join();
}

void ThreadPool::run(int items, Call call, void* context) {
  if (items <= 0) return;
  if (num_threads_ == 1 || items == 1) {
    for (int i = 0; i < items; ++i) call(context, i, 0);
    return;
  }
  if (!started()) start();
  Shared& s = *shared_;
  s.items = items;
  s.call = call;
  s.context = context;
  s.next.store(0, std::memory_order_relaxed);
  const uint64_t loop = (s.gate.load(std::memory_order_relaxed) >> 16) + 1;
  s.gate.store(loop << 16 | Shared::kOpen, std::memory_order_release);
  s.bell.fetch_add(1, std::memory_order_release);
  s.bell.notify_all();  // costs nothing while no worker sleeps
  s.take_items(0);
  s.gate.fetch_and(~Shared::kOpen, std::memory_order_acq_rel);
  for (int spin = 0; s.gate.load(std::memory_order_acquire) & Shared::kInside; ++spin) {
    if (spin < kSpins) {
      pause();
    } else {
      std::this_thread::yield();  // a worker lost its core inside an item
    }
  }
  if (s.failed.exchange(false, std::memory_order_relaxed)) std::rethrow_exception(std::exchange(s.error, nullptr));
}

}  // namespace dialo
