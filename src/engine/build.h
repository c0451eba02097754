// How do weights become an engine? Every face of the core builds one here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "cpu/weights.h"
#include "engine/engine.h"

namespace dialo {

struct EngineOptions {
  int num_threads;
  int64_t kv_cache_bytes;               // of all sequences together
  std::optional<ElementType> kv_type;  // of keys and values; without one, what suits the weights
};

// std::invalid_argument when an option is out of its range.
std::shared_ptr<Engine> make_engine(std::shared_ptr<const Weights> weights, const EngineOptions& options);

}  // namespace dialo
