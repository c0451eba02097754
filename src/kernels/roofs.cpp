#include "kernels/roofs.h"

#include <algorithm>
#include <chrono>

#include "base/buffer.h"

namespace dialo {
namespace {

constexpr int kTrialRounds = 10;
constexpr double kPassSeconds = 1e-3;  // of a peak's loop: long for the clock, short enough that ten passes are nothing

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The shortest of `repeats` passes in which every thread runs body(thread) once.
template <class Body>
double fastest(ThreadPool& pool, int repeats, const Body& body) {
  double best = 1e9;
  for (int i = 0; i < repeats; ++i) {
    const double start = seconds();
    pool.parallel_for(pool.size(), [&](int item, int) { body(item); });
    best = std::min(best, seconds() - start);
  }
  return best;
}

// One word of each cache line is enough: memory delivers whole lines. Several streams side by side, as a product reads
// its weights: one alone keeps too few lines on their way.
uint64_t touch_lines(const uint64_t* p, int64_t words) {
  constexpr int kStreams = 6, kLine = 8, kAhead = 512;  // in words
  const int64_t part = words / (kStreams * kLine) * kLine;
  uint64_t sum = 0;
  for (int64_t i = 0; i < part; i += kLine) {
    for (int s = 0; s < kStreams; ++s) {
      __builtin_prefetch(p + s * part + i + kAhead);
      sum += p[s * part + i];
    }
  }
  return sum;
}

double operations_per_second(ThreadPool& pool, int64_t (*peak)(int)) {
  int64_t products = 0;
  const double trial = fastest(pool, 1, [&](int) { peak(kTrialRounds); });
  const int rounds = int(std::clamp(kTrialRounds * kPassSeconds / trial, 1.0, 1e6));
  const double time = fastest(pool, 10, [&](int thread) {
    const int64_t done = peak(rounds);
    if (thread == 0) products = done;
  });
  return 2.0 * double(products) * pool.size() / time;
}

}  // namespace

double read_bandwidth(ThreadPool& pool, int64_t bytes, int repeats) {
  const int64_t words = bytes / int64_t{sizeof(uint64_t)}, share = words / pool.size();
  Buffer<uint64_t> memory(static_cast<std::size_t>(words));
  std::fill_n(memory.data(), words, 1);  // pages that were never written would all be one page of zeros
  volatile uint64_t sink = 0;
  const double time = fastest(pool, repeats, [&](int thread) { sink = touch_lines(memory.data() + thread * share, share); });
  return double(share * pool.size() * int64_t{sizeof(uint64_t)}) / time;
}

double peak_int8(ThreadPool& pool, const Kernels& kernels) { return operations_per_second(pool, kernels.peak_i8); }

double peak_float32(ThreadPool& pool, const Kernels& kernels) { return operations_per_second(pool, kernels.peak_f32); }

}  // namespace dialo
