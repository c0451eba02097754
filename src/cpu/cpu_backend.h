// GPT-2 on a CPU: the forward pass over a ragged batch.
#pragma once

#include <memory>

#include "base/thread_pool.h"
#include "cpu/weights.h"
#include "model/backend.h"

namespace dialo {

// `kv_cache_bytes` bounds the memory of all sequences' keys and values together, which are stored as `kv_type`.
// std::invalid_argument when there is no such cache.
std::unique_ptr<Backend> make_cpu_backend(std::shared_ptr<const Weights> weights, std::shared_ptr<ThreadPool> pool,
                                          int64_t kv_cache_bytes, ElementType kv_type);

}  // namespace dialo
