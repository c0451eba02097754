#include "engine/sampling.h"

#include <cmath>
#include <sstream>
#include <stdexcept>

namespace dialo {
namespace {

template <class T>
void require(bool fine, const char* name, const char* wanted, T found) {
  if (fine) return;
  std::ostringstream text;
  text << name << " must be " << wanted << ", but is " << found << ".";
  throw std::invalid_argument(text.str());
}

}  // namespace

void Sampling::validate() const {
  require(std::isfinite(temperature) && temperature > 0, "temperature", "greater than 0 (use do_sample=False for greedy)",
          temperature);
  require(top_k >= 0, "top_k", "0 (off) or more", top_k);
  require(top_p > 0 && top_p <= 1, "top_p", "greater than 0 and at most 1", top_p);
  // Beyond these a score could leave float32's range.
  require(repetition_penalty >= 1e-6 && repetition_penalty <= 1e6, "repetition_penalty", "from 1e-6 to 1e6",
          repetition_penalty);
  require(no_repeat_ngram_size >= 0, "no_repeat_ngram_size", "0 (off) or more", no_repeat_ngram_size);
  require(min_new_tokens >= 0, "min_new_tokens", "0 or more", min_new_tokens);
  require(reply_start >= 0, "reply_start", "0 or more", reply_start);
  require(penalty_start >= 0, "penalty_start", "0 or more", penalty_start);
}

}  // namespace dialo
