// Sequences in, tokens out: who owns positions, and what is one step?
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/fork_safe_mutex.h"
#include "base/thread_pool.h"
#include "engine/sampler.h"
#include "engine/sampling.h"
#include "model/backend.h"

namespace dialo {

class Engine;

// Token ids and their cache. The next position is the number of tokens: nobody else counts.
class Sequence {
 public:
  Sequence(std::shared_ptr<Engine> engine, std::unique_ptr<Cache> cache)
      : engine_(std::move(engine)), cache_(std::move(cache)) {}

  std::vector<int32_t> tokens() const;
  int64_t length() const;
  // std::invalid_argument unless 0 ≤ length ≤ this->length().
  std::shared_ptr<Sequence> fork(int64_t length) const;
  void truncate(int64_t length);

 private:
  friend class Engine;
  void check_length(int64_t length) const;

  std::shared_ptr<Engine> engine_;
  std::unique_ptr<Cache> cache_;
  std::vector<int32_t> tokens_;
};

// One row of a step: append `tokens`, and choose the next token if `sampling` is given.
struct Work {
  std::shared_ptr<Sequence> sequence;
  std::vector<int32_t> tokens;
  std::optional<Sampling> sampling;
};

// Safe from many threads: steps and changes of sequences run one after the other.
class Engine : public std::enable_shared_from_this<Engine> {
 public:
  Engine(std::unique_ptr<Backend> backend, std::shared_ptr<ThreadPool> pool);

  std::shared_ptr<Sequence> sequence();

  // Runs GPT-2 once over all rows. The chosen token of each work that asked, else -1; chosen tokens are not appended.
  // std::invalid_argument or CapacityError leave every sequence as it was.
  std::vector<int32_t> step(std::span<const Work> work);

  // From an empty cache: the logits after each token, (T, V), to `out`.
  void logits(std::span<const int32_t> tokens, float* out);
  // log P(tokens[t + 1] | tokens[0..t]), (T − 1), to `out`.
  void logprobs(std::span<const int32_t> tokens, float* out);

  const Config& config() const { return backend_->config(); }
  int num_threads() const { return pool_->size(); }
  int64_t kv_bytes_in_use() const { return backend_->cache_bytes_in_use(); }

 private:
  friend class Sequence;
  void check(std::span<const Work> work) const;
  void check_tokens(std::span<const int32_t> tokens, int64_t first_position) const;
  template <class Use>
  void read_through(std::span<const int32_t> tokens, const Use& use);

  mutable ForkSafeMutex lock_{LockRank::kEngine};
  std::shared_ptr<ThreadPool> pool_;
  std::unique_ptr<Backend> backend_;
  std::vector<float> logits_;      // (asked rows, V), V padded
  std::vector<Sampler> samplers_;  // one for each thread of the pool
};

}  // namespace dialo
