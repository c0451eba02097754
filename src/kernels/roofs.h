// How fast can this machine read and multiply at best? The roofs that measured speeds are compared with.
#pragma once

#include <cstdint>
#include <string>

#include "base/thread_pool.h"

namespace dialo {

// Bytes per second that the pool's threads read from `bytes` of memory, best of `repeats` passes. Choose several
// times the last cache, or the cache is measured.
double read_bandwidth(ThreadPool& pool, int64_t bytes, int repeats);

// Multiplications and additions per second of independent dot-product instructions on registers, on the pool's
// threads together: the most that `isa` could do if nothing ever had to be loaded. 0 where no such loop is known.
double peak_int8(ThreadPool& pool, const std::string& isa);
double peak_float32(ThreadPool& pool, const std::string& isa);

}  // namespace dialo
