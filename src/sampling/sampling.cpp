#include "sampling/sampling.h"

#include <cmath>
#include <sstream>
#include <stdexcept>

namespace dialo {
namespace {

template <class T>
void require(bool fine, const char* name, const char* wanted, T found) {
  if (fine) return;
  std::ostringstream text;
  text << "expected " << name << " " << wanted << ", found " << found;
  throw std::invalid_argument(text.str());
}

}  // namespace

void SamplingParams::validate() const {
  require(std::isfinite(temperature) && temperature > 0, "temperature",
          "greater than 0 (use do_sample=False for greedy)", temperature);
  require(top_k >= 0, "top_k", "0 (off) or more", top_k);
  require(top_p > 0 && top_p <= 1, "top_p", "greater than 0 and at most 1", top_p);
  require(min_p >= 0 && min_p <= 1, "min_p", "from 0 (off) to 1", min_p);
  require(typical_p > 0 && typical_p <= 1, "typical_p", "greater than 0 and at most 1", typical_p);
  require(epsilon_cutoff >= 0 && epsilon_cutoff < 1, "epsilon_cutoff", "from 0 (off) to less than 1", epsilon_cutoff);
  require(eta_cutoff >= 0 && eta_cutoff < 1, "eta_cutoff", "from 0 (off) to less than 1", eta_cutoff);
  // Beyond these a score could leave float32's range.
  require(repetition_penalty >= 1e-6 && repetition_penalty <= 1e6, "repetition_penalty", "from 1e-6 to 1e6",
          repetition_penalty);
  require(std::abs(presence_penalty) <= 100, "presence_penalty", "from -100 to 100", presence_penalty);
  require(std::abs(frequency_penalty) <= 100, "frequency_penalty", "from -100 to 100", frequency_penalty);
  for (const BiasedSequence& s : sequence_bias) {
    require(!s.ids.empty(), "sequence_bias", "for sequences of at least one token", "an empty one");
    require(std::abs(s.bias) <= 1e6f || s.bias == -INFINITY, "sequence_bias", "from -1e6 to 1e6, or minus infinity",
            s.bias);
  }
  for (const std::vector<int32_t>& word : bad_words_ids) {
    require(!word.empty(), "bad_words_ids", "as sequences of at least one token", "an empty one");
  }
  require(no_repeat_ngram_size >= 0, "no_repeat_ngram_size", "0 (off) or more", no_repeat_ngram_size);
  require(min_new_tokens >= 0, "min_new_tokens", "0 or more", min_new_tokens);
  require(reply_start >= 0, "reply_start", "0 or more", reply_start);
  require(penalty_start >= 0, "penalty_start", "0 or more", penalty_start);
  require(max_length >= 0, "max_length", "0 (unknown) or more", max_length);
}

}  // namespace dialo
