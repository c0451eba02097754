// How shall the next token be chosen? The settings of one request, under Hugging Face's names.
#pragma once

#include <cstdint>
#include <vector>

namespace dialo {

struct Sampling {
  bool do_sample = false;
  double temperature = 1;
  int top_k = 0;     // 0: off
  double top_p = 1;  // 1: off
  double repetition_penalty = 1;
  int no_repeat_ngram_size = 0;  // 0: off
  int min_new_tokens = 0;
  std::vector<int32_t> eos_token_ids;
  uint64_t seed = 0;
  int64_t reply_start = 0;    // position of the reply's first token: randomness and min_new_tokens count from here
  int64_t penalty_start = 0;  // first position that the penalties look at

  // std::invalid_argument when a value makes no sense.
  void validate() const;
};

}  // namespace dialo
