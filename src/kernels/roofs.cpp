#include "kernels/roofs.h"

#include <algorithm>
#include <chrono>

#include "base/buffer.h"
#include "kernels/isa.h"

#if defined(DIALO_X86)
#include <immintrin.h>
#endif

namespace dialo {
namespace {

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

#if defined(DIALO_X86)

constexpr int kRounds = 200'000, kChains = 12;  // chains: more than latency × throughput of any of these instructions

// A loop of kChains independent instructions, `kRounds` times; the empty asm keeps each of them, in its register.
#define DIALO_PEAK_LOOP(name, features, Vector, constraint, STEP)          \
  __attribute__((target(features), noinline)) void name() {                \
    Vector sum[kChains] = {};                                              \
    for (int round = 0; round < kRounds; ++round) {                        \
      _Pragma("GCC unroll 12") for (int i = 0; i < kChains; ++i) {         \
        STEP;                                                              \
        asm volatile("" : "+" constraint(sum[i]));                         \
      }                                                                    \
    }                                                                      \
  }

// Accumulators are also the operands: the values do not matter, and no register is spent on others.
DIALO_PEAK_LOOP(int8_avx512vnni, "avx512f,avx512bw,avx512vnni", __m512i, "v",
                sum[i] = _mm512_dpbusd_epi32(sum[i], sum[i], sum[i]))
DIALO_PEAK_LOOP(int8_avxvnni, "avx2,avxvnni", __m256i, "x", sum[i] = _mm256_dpbusd_avx_epi32(sum[i], sum[i], sum[i]))
DIALO_PEAK_LOOP(int8_avx2, "avx2", __m256i, "x",
                sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_maddubs_epi16(sum[i], sum[i]), sum[i])))
DIALO_PEAK_LOOP(float_avx512, "avx512f", __m512, "v", sum[i] = _mm512_fmadd_ps(sum[i], sum[i], sum[i]))
DIALO_PEAK_LOOP(float_avx2, "avx2,fma", __m256, "x", sum[i] = _mm256_fmadd_ps(sum[i], sum[i], sum[i]))

#undef DIALO_PEAK_LOOP

struct Peak {
  const char* isa;
  void (*int8)();
  int int8_products;  // of one step of one chain
  void (*float32)();
  int float32_products;
};

constexpr Peak kPeaks[] = {
    {"avx2", int8_avx2, 32, float_avx2, 8},
    {"avxvnni", int8_avxvnni, 32, float_avx2, 8},
    {"avx512vnni", int8_avx512vnni, 64, float_avx512, 16},
};

const Peak* peak_of(const std::string& isa) {
  const auto found = std::find_if(std::begin(kPeaks), std::end(kPeaks), [&](const Peak& p) { return p.isa == isa; });
  return found == std::end(kPeaks) ? nullptr : found;
}

double operations_per_second(ThreadPool& pool, void (*loop)(), int products) {
  const double time = fastest(pool, 10, [&](int) { loop(); });
  return 2.0 * products * kChains * kRounds * pool.size() / time;
}

#endif

}  // namespace

double read_bandwidth(ThreadPool& pool, int64_t bytes, int repeats) {
  const int64_t words = bytes / int64_t{sizeof(uint64_t)}, share = words / pool.size();
  Buffer<uint64_t> memory(static_cast<std::size_t>(words));
  std::fill_n(memory.data(), words, 1);  // pages that were never written would all be one page of zeros
  volatile uint64_t sink = 0;
  const double time = fastest(pool, repeats, [&](int thread) { sink = touch_lines(memory.data() + thread * share, share); });
  return double(share * pool.size() * int64_t{sizeof(uint64_t)}) / time;
}

double peak_int8(ThreadPool& pool, const std::string& isa) {
#if defined(DIALO_X86)
  const Peak* peak = peak_of(isa);
  return peak ? operations_per_second(pool, peak->int8, peak->int8_products) : 0.0;
#else
  (void)pool, (void)isa;
  return 0.0;
#endif
}

double peak_float32(ThreadPool& pool, const std::string& isa) {
#if defined(DIALO_X86)
  const Peak* peak = peak_of(isa);
  return peak ? operations_per_second(pool, peak->float32, peak->float32_products) : 0.0;
#else
  (void)pool, (void)isa;
  return 0.0;
#endif
}

}  // namespace dialo
