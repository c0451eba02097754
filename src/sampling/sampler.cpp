#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/finite.h"
#include "sampling/row.h"

namespace dialo {
namespace {

// splitmix64's finaliser (Steele, Lea & Flood 2014).
uint64_t mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

// The index at which the cumulated weights exceed u · total.
std::size_t index_at(std::span<const float> weights, double total, double u) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i];
    if (sum > u * total) return i;
  }
  // Rounding left the sum just below the target: the last token with a chance.
  std::size_t last = weights.size() - 1;
  while (last > 0 && weights[last] == 0) --last;
  return last;
}

}  // namespace

void check_finite(std::span<const float> logits) {
  if (all_finite(logits)) return;
  throw BackendError("expected finite logits of the model, found NaN or infinity: its weights are damaged; download them again");
}

double uniform(uint64_t seed, uint64_t position) {
  return double(mix(mix(seed) ^ mix(~position)) >> 11) * 0x1p-53;
}

void Sampler::process(const SamplingParams& rules, Ids tokens, std::span<float> logits, Ids bans) {
  check_finite(logits);
  processors_.apply(rules, tokens, bans, logits);
}

int32_t Sampler::draw(const SamplingParams& rules, int64_t position, std::span<const float> scores) {
  // Nothing is left when the rules ban every token: the reply ends, by an end-of-text that the vocabulary has.
  const auto known = std::find_if(rules.eos_token_ids.begin(), rules.eos_token_ids.end(),
                                  [&](int32_t id) { return id >= 0 && std::size_t(id) < scores.size(); });
  const int32_t end = known == rules.eos_token_ids.end() ? 0 : *known;
  if (!rules.do_sample) {
    const int32_t best = argmax(scores);
    return scores[best] == kBanned ? end : best;
  }
  warpers_.apply(rules, scores);
  if (warpers_.candidates().empty()) return end;
  const double u = uniform(rules.seed, position - rules.reply_start);
  return warpers_.candidates()[index_at(warpers_.weights(), warpers_.total(), u)].id;
}

int32_t Sampler::choose(const SamplingParams& rules, Ids tokens, std::span<float> logits, Ids bans) {
  process(rules, tokens, logits, bans);
  return draw(rules, int64_t(tokens.size()), logits);
}

std::vector<float> Sampler::distribution(const SamplingParams& rules, Ids tokens, std::span<float> logits, Ids bans) {
  std::vector<float> probabilities(logits.size(), 0.0f);
  process(rules, tokens, logits, bans);
  if (!rules.do_sample) {
    const int32_t best = argmax(logits);
    if (logits[best] != kBanned) probabilities[best] = 1;
    return probabilities;
  }
  warpers_.apply(rules, logits);
  const auto kept = warpers_.candidates();
  for (std::size_t i = 0; i < kept.size(); ++i) {
    probabilities[kept[i].id] = float(warpers_.weights()[i] / warpers_.total());
  }
  return probabilities;
}

float Sampler::logprob(std::span<const float> logits, int32_t id) const {
  if (!all_finite(logits)) return std::numeric_limits<float>::quiet_NaN();  // exp would not show a NaN
  return float(double(logits[id]) - log_total(logits));
}

double Sampler::log_total(std::span<const float> logits) const {
  const float highest = logits[argmax(logits)];
  return highest + std::log(double(kernels_.exp_sum(logits.data(), int(logits.size()), highest, nullptr)));
}

void Sampler::highest(std::span<const float> scores, int n, std::vector<TokenScore>& out) {
  warpers_.keep_top_k(scores, n);
  out.assign(warpers_.candidates().begin(), warpers_.candidates().end());
  std::sort(out.begin(), out.end(), [](const TokenScore& a, const TokenScore& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  });
  if (out.size() > std::size_t(n)) out.resize(n);
}

void Sampler::top_logprobs(std::span<const float> logits, int n, std::vector<TokenScore>& out) {
  out.clear();
  if (n < 1) return;
  check_finite(logits);
  const double total = log_total(logits);
  highest(logits, n, out);
  for (TokenScore& c : out) c.score = float(c.score - total);
}

std::vector<TokenScore> Sampler::n_best(const SamplingParams& rules, Ids tokens, std::span<float> logits, int n, Ids bans) {
  check_finite(logits);
  const double total = log_total(logits);
  for (float& x : logits) x = float(x - total);
  processors_.apply(rules, tokens, bans, logits);
  std::vector<TokenScore> best;
  if (n > 0) highest(logits, n, best);
  return best;
}

}  // namespace dialo
