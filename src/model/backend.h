// What must a device be able to do to run GPT-2? The contract between the engine and the CPU or the GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/config.h"

namespace dialo {

// The keys and values of one sequence, owned by the backend that made it. The sequence's length is the engine's:
// what the cache holds after it is scratch.
class Cache {
 public:
  virtual ~Cache() = default;
  // A second cache with the first `length` positions; memory is shared until one of the two writes.
  virtual std::unique_ptr<Cache> fork(int64_t length) const = 0;
  // Forget everything from position `length` on.
  virtual void truncate(int64_t length) = 0;
};

// Consecutive tokens of one sequence.
struct Segment {
  Cache* cache;
  const int32_t* tokens;
  int rows;
  int64_t first_position;
};

// One step: a ragged batch. The rows of the segments follow each other.
struct Batch {
  std::vector<Segment> segments;
  std::vector<int> wanted;  // rows whose logits are asked for, ascending
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const Config& config() const = 0;
  virtual std::unique_ptr<Cache> new_cache() = 0;
  // Appends every segment's keys and values to its cache and writes the wanted rows' logits, config().outputs()
  // floats each, to logits + i · logits_stride().  CapacityError, before anything is written, when the cache's memory
  // is used up; BackendError when the weights lead to what is not a finite number.
  virtual void forward(const Batch& batch, float* logits) = 0;
  virtual int64_t logits_stride() const = 0;
  virtual int64_t cache_bytes_in_use() const = 0;
};

}  // namespace dialo
