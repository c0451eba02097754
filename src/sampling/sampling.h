// How shall the next token be chosen? The settings of one request, under Hugging Face's names.
#pragma once

#include <cstdint>
#include <vector>

namespace dialo {

// Added to the score of ids.back() where the tokens before it are the others; −∞ bans it there.
struct BiasedSequence {
  std::vector<int32_t> ids;
  float bias;
};

struct SamplingParams {
  bool do_sample = false;
  // Processors: they hold with and without sampling. Lists may name ids that the vocabulary lacks: nothing happens.
  std::vector<BiasedSequence> sequence_bias;
  double repetition_penalty = 1;
  double presence_penalty = 0;
  double frequency_penalty = 0;
  int no_repeat_ngram_size = 0;  // 0: off
  std::vector<std::vector<int32_t>> bad_words_ids;
  int min_new_tokens = 0;
  std::vector<int32_t> forced_eos_token_ids;
  std::vector<int32_t> suppress_tokens;
  std::vector<int32_t> begin_suppress_tokens;
  // Warpers: what sampling keeps.
  double temperature = 1;
  int top_k = 0;     // 0: off
  double top_p = 1;  // 1: off
  double min_p = 0;
  double typical_p = 1;  // 1: off
  double epsilon_cutoff = 0;
  double eta_cutoff = 0;
  // The reply that these rules are for.
  std::vector<int32_t> eos_token_ids;
  uint64_t seed = 0;
  int64_t reply_start = 0;    // position of the reply's first token: randomness and min_new_tokens count from here
  int64_t penalty_start = 0;  // first position that repetition_penalty and no_repeat_ngram_size look at
  int64_t max_length = 0;     // tokens that the sequence can have at most: the last is the forced one; 0: unknown

  // std::invalid_argument when a value makes no sense.
  void validate() const;
};

}  // namespace dialo
