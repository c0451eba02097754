// How fast can this machine read and multiply at best? The roofs that measured speeds are compared with.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace dialo {

// Bytes per second that the pool's threads read from `bytes` of memory, best of `repeats` passes. Choose several
// times the last cache, or the cache is measured.
double read_bandwidth(ThreadPool& pool, int64_t bytes, int repeats);

// Multiplications and additions per second on the pool's threads together, if nothing ever had to be loaded: what the
// rung's own dot-product instructions can do at most.
double peak_int8(ThreadPool& pool, const Kernels& kernels);
double peak_float32(ThreadPool& pool, const Kernels& kernels);

}  // namespace dialo
