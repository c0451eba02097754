// What do the rules do to the scores before any choice? Penalties, biases and bans: transformers' logits processors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/sampling.h"

namespace dialo {

// The scratch memory of one caller; not shared between threads.
class Processors {
 public:
  // All of them, in the order of transformers' `_get_logits_processor`. `scores` (V): logits, or, for beams,
  // log-probabilities. `tokens`: the whole sequence so far, ids of the vocabulary. `bans`: ids that may not follow now.
  void apply(const SamplingParams& rules, std::span<const int32_t> tokens, std::span<const int32_t> bans,
             std::span<float> scores);

 private:
  std::vector<int32_t> counts_;  // (V) how often an id occurs in the tokens at hand; all 0 between two rules
};

}  // namespace dialo
