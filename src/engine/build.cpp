#include "engine/build.h"

#include <stdexcept>
#include <string>

#include "cpu/cpu_backend.h"

namespace dialo {

std::shared_ptr<Engine> make_engine(std::shared_ptr<const Weights> weights, const EngineOptions& options) {
  if (options.num_threads < 1 || options.num_threads > 1024) {
    throw std::invalid_argument("expected num_threads from 1 to 1024, found " + std::to_string(options.num_threads));
  }
  const ElementType kv_type = options.kv_type.value_or(weights->format().keys_values);
  auto pool = std::make_shared<ThreadPool>(options.num_threads);
  auto backend = make_cpu_backend(std::move(weights), pool, options.kv_cache_bytes, kv_type);
  return std::make_shared<Engine>(std::move(backend), std::move(pool));
}

}  // namespace dialo
