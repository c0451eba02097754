#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace dialo {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

void check_finite(std::span<const float> logits) {
  bool damaged = false;
  for (const float x : logits) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    damaged |= (bits & 0x7f800000u) == 0x7f800000u;
  }
  if (damaged) throw BackendError("The model's logits are not finite numbers: its weights are damaged; fetch them anew.");
}

// Each token that occurs in the scope: score / penalty when positive, score · penalty when negative (CTRL, 2019).
void repetition_penalty(std::span<float> logits, std::span<const int32_t> scope, float penalty) {
  // Once per id, however often it occurs: the ids' original scores are read before any is written.
  std::vector<int32_t> ids(scope.begin(), scope.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  for (const int32_t id : ids) logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
}

// Bans every token that would complete an n-gram which the scope already holds.
void no_repeat_ngram(std::span<float> logits, std::span<const int32_t> scope, std::size_t n) {
  if (scope.size() + 1 < n) return;
  const auto prefix = scope.last(n - 1);
  for (std::size_t i = 0; i + n <= scope.size(); ++i) {
    if (std::equal(prefix.begin(), prefix.end(), scope.begin() + i)) logits[scope[i + n - 1]] = kBanned;
  }
}

void ban(std::span<float> logits, std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    if (id >= 0 && std::size_t(id) < logits.size()) logits[id] = kBanned;
  }
}

int32_t argmax(std::span<const float> logits) {
  return int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// splitmix64's finaliser (Steele, Lea & Flood 2014).
uint64_t mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

bool by_logit(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

}  // namespace

double uniform(uint64_t seed, uint64_t position) { return double(mix(mix(seed) ^ mix(~position)) >> 11) * 0x1p-53; }

void Sampler::process(const Sampling& rules, std::span<const int32_t> tokens, std::span<float> logits) {
  check_finite(logits);
  const auto scope = tokens.subspan(std::min<std::size_t>(rules.penalty_start, tokens.size()));
  if (rules.repetition_penalty != 1) repetition_penalty(logits, scope, float(rules.repetition_penalty));
  if (rules.no_repeat_ngram_size > 0) no_repeat_ngram(logits, scope, rules.no_repeat_ngram_size);
  if (int64_t(tokens.size()) - rules.reply_start < rules.min_new_tokens) ban(logits, rules.eos_token_ids);
}

// The k largest, and whatever equals the last of them.
void Sampler::keep_top_k(std::span<const float> logits, int k) {
  float threshold = kBanned;
  if (std::size_t(k) < logits.size()) {
    // `values_` collects what exceeds the threshold, and each time it is full, the k-th largest becomes the threshold:
    // after a few rounds almost every logit fails one predictable comparison.
    const std::size_t room = 2 * std::size_t(k) + 64;
    values_.clear();
    const auto shrink = [&] {
      std::nth_element(values_.begin(), values_.begin() + (k - 1), values_.end(), std::greater<>());
      values_.resize(k);
      threshold = values_[k - 1];
    };
    for (const float x : logits) {
      if (x < threshold) continue;
      values_.push_back(x);
      if (values_.size() == room) shrink();
    }
    shrink();
  }
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] >= threshold && logits[id] != kBanned) candidates_.push_back({logits[id], int32_t(id)});
  }
}

void Sampler::to_probabilities() {
  values_.resize(candidates_.size());
  float highest = kBanned;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    values_[i] = candidates_[i].logit;
    highest = std::max(highest, values_[i]);
  }
  total_ = kernels_.exp_sum(values_.data(), int(values_.size()), highest, values_.data());
}

// The smallest set of most probable tokens whose probabilities reach p (Holtzman et al. 2020); at least one token.
void Sampler::keep_top_p(double p) {
  to_probabilities();
  const double total = total_;
  double sum = 0;
  std::size_t kept = 0, sorted = 0;
  // Sorting a growing head is enough: the nucleus is usually a small part of the vocabulary.
  for (std::size_t head = 64; kept < candidates_.size() && sum < p * total; head *= 8) {
    const auto end = candidates_.begin() + std::min(head, candidates_.size());
    std::partial_sort(candidates_.begin() + sorted, end, candidates_.end(), by_logit);
    sorted = end - candidates_.begin();
    values_.resize(sorted - kept);
    for (std::size_t i = kept; i < sorted; ++i) values_[i - kept] = candidates_[i].logit;
    kernels_.exp_sum(values_.data(), int(values_.size()), candidates_[0].logit, values_.data());
    for (std::size_t i = 0; kept < sorted && sum < p * total; ++i, ++kept) sum += values_[i];
  }
  candidates_.resize(std::max<std::size_t>(kept, 1));
}

// Relative to the highest logit, so that nothing overflows, however small the temperature.
void Sampler::apply_temperature(double temperature) {
  const float divisor = std::max(float(temperature), std::numeric_limits<float>::min());
  float highest = kBanned;
  for (const Candidate& c : candidates_) highest = std::max(highest, c.logit);
  for (Candidate& c : candidates_) c.logit = (c.logit - highest) / divisor;
}

void Sampler::warp(const Sampling& rules, std::span<const float> logits) {
  candidates_.clear();
  // Before the temperature, which keeps the order: only what is left needs it.
  keep_top_k(logits, rules.top_k > 0 ? rules.top_k : int(logits.size()));
  if (candidates_.empty()) return;
  if (rules.temperature != 1) apply_temperature(rules.temperature);
  if (rules.top_p < 1) keep_top_p(rules.top_p);
  to_probabilities();
}

int32_t Sampler::choose(const Sampling& rules, std::span<const int32_t> tokens, std::span<float> logits) {
  process(rules, tokens, logits);
  // Nothing is left when the rules ban every token: the reply ends.
  const int32_t end = rules.eos_token_ids.empty() ? 0 : rules.eos_token_ids[0];
  if (!rules.do_sample) {
    const int32_t best = argmax(logits);
    return logits[best] == kBanned ? end : best;
  }
  warp(rules, logits);
  if (candidates_.empty()) return end;
  const double target = uniform(rules.seed, tokens.size() - rules.reply_start) * total_;
  double sum = 0;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    sum += values_[i];
    if (sum > target) return candidates_[i].id;
  }
  // Rounding left the sum just below the target: the last token with a chance.
  std::size_t last = candidates_.size() - 1;
  while (last > 0 && values_[last] == 0) --last;
  return candidates_[last].id;
}

std::vector<float> Sampler::distribution(const Sampling& rules, std::span<const int32_t> tokens,
                                         std::span<float> logits) {
  std::vector<float> probabilities(logits.size(), 0.0f);
  process(rules, tokens, logits);
  if (!rules.do_sample) {
    probabilities[argmax(logits)] = 1;
    return probabilities;
  }
  warp(rules, logits);
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    probabilities[candidates_[i].id] = float(values_[i] / total_);
  }
  return probabilities;
}

}  // namespace dialo
