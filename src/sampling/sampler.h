// Which token follows these logits? Hugging Face's rules, in its order: processors (penalties, biases, bans), then,
// when sampling, warpers (temperature, top-k, top-p, …), then one draw.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "sampling/processors.h"
#include "sampling/sampling.h"
#include "sampling/warpers.h"

namespace dialo {

// The scratch memory of one sampler; not shared between threads. For all: `logits` (V) of the model, BackendError when
// one is not finite; `tokens`: the whole sequence so far, the next position is tokens.size(); `bans`: ids that may not
// follow now, whatever the rules say.
class Sampler {
 public:
  using Ids = std::span<const int32_t>;

  explicit Sampler(const Kernels& kernels) : kernels_(kernels), warpers_(kernels) {}

  // One token; the first end-of-text when the rules ban every token. `logits` are changed in place.
  int32_t choose(const SamplingParams& rules, Ids tokens, std::span<float> logits, Ids bans = {});

  // Its two halves: the processors, in place, and the choice by what they left. `position`: that of the chosen token.
  void process(const SamplingParams& rules, Ids tokens, std::span<float> logits, Ids bans = {});
  int32_t draw(const SamplingParams& rules, int64_t position, std::span<const float> scores);

  // The distribution that `choose` draws from: probability of each id, 0 for those that the rules remove.
  std::vector<float> distribution(const SamplingParams& rules, Ids tokens, std::span<float> logits, Ids bans = {});

  // For beams: the n tokens of the highest log-probability after the processors, as transformers' beam search has it
  // (log-softmax first, then the rules, no warpers). Sorted by (score descending, id ascending); fewer than n when the
  // rest is banned. `logits` are changed in place.
  std::vector<TokenScore> n_best(const SamplingParams& rules, Ids tokens, std::span<float> logits, int n, Ids bans = {});

  // The model's own log-probability of a token, before any rule; NaN when a logit is not finite.
  float logprob(std::span<const float> logits, int32_t id) const;
  // The n tokens with the highest of them, sorted as above, to `out`.
  void top_logprobs(std::span<const float> logits, int n, std::vector<TokenScore>& out);

 private:
  double log_total(std::span<const float> logits) const;  // log P(id) = logits[id] − log_total
  void highest(std::span<const float> scores, int n, std::vector<TokenScore>& out);

  const Kernels& kernels_;
  Processors processors_;
  Warpers warpers_;
};

// BackendError when one of the model's numbers is not finite.
void check_finite(std::span<const float> numbers);

// A number in [0, 1) from (seed, position) alone, so that neither neighbours nor threads change a reply.
double uniform(uint64_t seed, uint64_t position);

}  // namespace dialo
