#include "sampling/processors.h"

#include <algorithm>

#include "sampling/row.h"

namespace dialo {
namespace {

using Ids = std::span<const int32_t>;

bool known(int32_t id, std::span<const float> scores) {
  return id >= 0 && std::size_t(id) < scores.size();
}

void ban(std::span<float> scores, Ids ids) {
  for (const int32_t id : ids) {
    if (known(id, scores)) scores[id] = kBanned;
  }
}

// May the last of `sequence` follow now, that is: do the tokens end with what stands before it?
bool completes(Ids tokens, Ids sequence) {
  const Ids prefix = sequence.first(sequence.size() - 1);
  return prefix.size() <= tokens.size() && std::equal(prefix.rbegin(), prefix.rend(), tokens.rbegin());
}

// use(id, how often it occurs) once for each id of `tokens`; `counts` are 0 before and after.
template <class Use>
void for_each_counted(Ids tokens, std::vector<int32_t>& counts, const Use& use) {
  for (const int32_t id : tokens) ++counts[id];
  for (const int32_t id : tokens) {
    if (counts[id] > 0) use(id, counts[id]);
    counts[id] = 0;
  }
}

void sequence_bias(std::span<float> scores, Ids tokens, std::span<const BiasedSequence> sequences) {
  for (const BiasedSequence& s : sequences) {
    if (known(s.ids.back(), scores) && completes(tokens, s.ids)) scores[s.ids.back()] += s.bias;
  }
}

// Each token that occurs in the scope, however often: score / penalty when positive, score · penalty when negative
// (Keskar et al. 2019, CTRL).
void repetition_penalty(std::span<float> scores, Ids scope, std::vector<int32_t>& counts, float penalty) {
  for_each_counted(scope, counts, [&](int32_t id, int32_t) {
    scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
  });
}

// OpenAI's and vLLM's: score − frequency · count − presence for each token that the reply holds.
void presence_and_frequency_penalty(std::span<float> scores, Ids reply, std::vector<int32_t>& counts, float presence,
                                    float frequency) {
  for_each_counted(reply, counts, [&](int32_t id, int32_t count) {
    scores[id] -= frequency * float(count);
    scores[id] -= presence;
  });
}

// Bans every token that would complete an n-gram which the scope already holds.
void no_repeat_ngram(std::span<float> scores, Ids scope, std::size_t n) {
  if (scope.size() + 1 < n) return;
  const auto prefix = scope.last(n - 1);
  for (std::size_t i = 0; i + n <= scope.size(); ++i) {
    if (std::equal(prefix.begin(), prefix.end(), scope.begin() + i)) scores[scope[i + n - 1]] = kBanned;
  }
}

void bad_words(std::span<float> scores, Ids tokens, std::span<const std::vector<int32_t>> words) {
  for (const std::vector<int32_t>& word : words) {
    if (completes(tokens, word)) ban(scores, Ids(word).last(1));
  }
}

void force(std::span<float> scores, Ids ids) {
  std::fill(scores.begin(), scores.end(), kBanned);
  for (const int32_t id : ids) {
    if (known(id, scores)) scores[id] = 0;
  }
}

}  // namespace

void Processors::apply(const SamplingParams& rules, Ids tokens, Ids bans, std::span<float> scores) {
  if (counts_.size() < scores.size()) counts_.assign(scores.size(), 0);
  const auto from = [&](int64_t start) { return tokens.subspan(std::min(std::size_t(start), tokens.size())); };
  const Ids scope = from(rules.penalty_start), reply = from(rules.reply_start);
  const int64_t length = int64_t(tokens.size());

  sequence_bias(scores, tokens, rules.sequence_bias);
  if (rules.repetition_penalty != 1) repetition_penalty(scores, scope, counts_, float(rules.repetition_penalty));
  if (rules.presence_penalty != 0 || rules.frequency_penalty != 0) {
    presence_and_frequency_penalty(scores, reply, counts_, float(rules.presence_penalty),
                                   float(rules.frequency_penalty));
  }
  if (rules.no_repeat_ngram_size > 0) no_repeat_ngram(scores, scope, rules.no_repeat_ngram_size);
  bad_words(scores, tokens, rules.bad_words_ids);
  ban(scores, bans);
  if (length - rules.reply_start < rules.min_new_tokens) ban(scores, rules.eos_token_ids);
  if (!rules.forced_eos_token_ids.empty() && length == rules.max_length - 1) force(scores, rules.forced_eos_token_ids);
  ban(scores, rules.suppress_tokens);
  if (length == rules.reply_start) ban(scores, rules.begin_suppress_tokens);
}

}  // namespace dialo
