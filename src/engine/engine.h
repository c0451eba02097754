// Sequences in, tokens out: who owns positions, and what is one step?
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/fork_safe_mutex.h"
#include "base/thread_pool.h"
#include "model/backend.h"
#include "sampling/sampler.h"

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

// One sequence's part of a step: append `tokens`, and tell what is asked for about them.
struct Work {
  std::shared_ptr<Sequence> sequence;
  std::vector<int32_t> tokens;
  std::shared_ptr<const SamplingParams> sampling;  // choose the next token by these rules
  std::vector<int32_t> bans;                 // that may not follow now, whatever the rules say
  int n_best = 0;                            // > 0: instead, the best continuations by these rules, for a beam search
  int top_logprobs = -1;                     // ≥ 0: beside the choice, so many of the most probable tokens
  int scored = 0;                            // log-probabilities of the last so many of `tokens`
  bool logits = false;                       // instead, the outputs after the last token, processed by these rules
};

// What a work asked for; the rest is empty.
struct Outcome {
  int32_t token = -1;           // of `sampling`; not appended to the sequence
  float logprob = 0;            // its log-probability in the model's own distribution; with top_logprobs
  std::vector<TokenScore> best;  // of n_best: scores after the rules; of top_logprobs: log-probabilities before them
  std::vector<float> logprobs;  // (scored)
  std::vector<float> logits;    // (outputs)
};

// Safe from many threads: steps and changes of sequences run one after the other.
class Engine : public std::enable_shared_from_this<Engine> {
 public:
  Engine(std::unique_ptr<Backend> backend, std::shared_ptr<ThreadPool> pool);

  std::shared_ptr<Sequence> sequence();

  // Runs GPT-2 once over all rows and answers each work.
  // std::invalid_argument, CapacityError or BackendError leave every sequence as it was.
  std::vector<Outcome> step(std::span<const Work> work);

  // From an empty cache: the logits after each token, (T, outputs), to `out`.
  void logits(std::span<const int32_t> tokens, float* out);
  // log P(tokens[t + 1] | tokens[0..t]), (T − 1), to `out`. Of a language model, as a choice in step().
  void logprobs(std::span<const int32_t> tokens, float* out);

  const Config& config() const { return backend_->config(); }
  int num_threads() const { return pool_->size(); }
  int64_t kv_bytes_in_use() const { return backend_->cache_bytes_in_use(); }

 private:
  friend class Sequence;
  void check(std::span<const Work> work) const;
  void check_writes() const;  // std::invalid_argument for a classifier
  void check_tokens(std::span<const int32_t> tokens, int64_t first_position) const;
  template <class Use>
  void read_through(std::span<const int32_t> tokens, const Use& use);

  mutable ForkSafeMutex lock_{LockRank::kEngine};
  std::shared_ptr<ThreadPool> pool_;
  std::unique_ptr<Backend> backend_;
  std::vector<float> logits_;      // (asked rows, outputs), outputs padded
  std::vector<Sampler> samplers_;  // one for each thread of the pool
};

}  // namespace dialo
