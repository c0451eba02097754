#include "sampling/warpers.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "sampling/row.h"

namespace dialo {

void Warpers::keep_top_k(std::span<const float> scores, int k) {
  candidates_.clear();
  float threshold = kBanned;
  if (std::size_t(k) < scores.size()) {
    // `weights_` collects what exceeds the threshold, and each time it is full, the k-th highest becomes the threshold:
    // after a few rounds almost every block of scores fails one comparison.
    const std::size_t room = 2 * std::size_t(k) + 64;
    std::vector<float>& highest = weights_;
    highest.clear();
    const auto shrink = [&] {
      std::nth_element(highest.begin(), highest.begin() + (k - 1), highest.end(), std::greater<>());
      highest.resize(k);
      threshold = highest[k - 1];
    };
    for_each_at_least(scores, threshold, [&](int32_t, float score) {
      highest.push_back(score);
      if (highest.size() == room) shrink();
    });
    shrink();
  }
  if (threshold == kBanned) {
    candidates_.resize(scores.size());
    std::size_t kept = 0;
    for (std::size_t id = 0; id < scores.size(); ++id) {
      candidates_[kept] = {scores[id], int32_t(id)};
      kept += scores[id] != kBanned;
    }
    candidates_.resize(kept);
    return;
  }
  for_each_at_least(scores, threshold, [&](int32_t id, float score) { candidates_.push_back({score, id}); });
}

// Relative to the highest score, so that nothing overflows, however small the temperature.
void Warpers::apply_temperature(double temperature) {
  const float divisor = std::max(float(temperature), std::numeric_limits<float>::min());
  const float highest = highest_score();
  for (TokenScore& c : candidates_) c.score = (c.score - highest) / divisor;
}

// Leaves the scores in weights_.
float Warpers::highest_score() {
  weights_.resize(candidates_.size());
  for (std::size_t i = 0; i < candidates_.size(); ++i) weights_[i] = candidates_[i].score;
  return weights_[argmax(weights_)];
}

// Fills weights_ and total_; returns the highest score, whose weight is 1.
float Warpers::weigh() {
  const float highest = highest_score();
  total_ = kernels_.exp_sum(weights_.data(), int(weights_.size()), highest, weights_.data());
  return highest;
}

template <class Keep>
void Warpers::keep_if(const Keep& keep) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    candidates_[kept] = candidates_[i];
    kept += keep(candidates_[i], weights_[i]);
  }
  candidates_.resize(kept);
}

// −Σ p · ln p in nats. ln p = score − highest − ln total.
double Warpers::entropy(float highest) const {
  double sum = 0;
  for (std::size_t i = 0; i < candidates_.size(); ++i) sum += double(weights_[i]) * (candidates_[i].score - highest);
  return std::log(total_) - sum / total_;
}

// The first of ranked_, in their order, with which the weights reach the target. The keys are in nats, so a bin of 1/64
// holds few tokens even of a flat distribution, and what is 32 nats less probable has hardly a weight: only the bin in which
// the target is reached needs sorting.
Warpers::Ranked Warpers::cutoff(double target) {
  constexpr float kBinsPerNat = 64;
  constexpr std::size_t kLastBin = 32 * 64;
  float lowest = std::numeric_limits<float>::infinity();
  for (const Ranked& r : ranked_) lowest = std::min(lowest, r.key);
  const auto bin_of = [&](float key) { return std::size_t(std::min((key - lowest) * kBinsPerNat, float(kLastBin))); };
  mass_.assign(kLastBin + 1, 0.0);
  for (const Ranked& r : ranked_) mass_[bin_of(r.key)] += r.weight;

  double sum = 0;
  std::size_t bin = 0;
  while (bin < kLastBin && sum + mass_[bin] < target) sum += mass_[bin++];
  std::erase_if(ranked_, [&](const Ranked& r) { return bin_of(r.key) != bin; });
  std::sort(ranked_.begin(), ranked_.end(),
            [](const Ranked& a, const Ranked& b) { return a.key != b.key ? a.key < b.key : a.id < b.id; });
  for (const Ranked& r : ranked_) {
    sum += r.weight;
    if (sum >= target) return r;
  }
  // Rounding left the sum of the bin or of all just below the target: up to its end, or everything.
  return bin < kLastBin ? ranked_.back() : Ranked{std::numeric_limits<float>::infinity(), 0, 0};
}

// The smallest set of most probable tokens whose probabilities reach p (Holtzman et al. 2020).
void Warpers::keep_top_p(double p) {
  weigh();
  ranked_.resize(candidates_.size());
  for (std::size_t i = 0; i < ranked_.size(); ++i) ranked_[i] = {-candidates_[i].score, weights_[i], candidates_[i].id};
  const Ranked last = cutoff(p * total_);
  keep_if([&](const TokenScore& c, float) { return -c.score != last.key ? -c.score < last.key : c.id <= last.id; });
}

// At least p times as probable as the most probable token (Nguyen et al. 2024).
void Warpers::keep_min_p(double p) {
  weigh();
  keep_if([&](const TokenScore&, float weight) { return weight >= float(p); });
}

// The tokens whose surprise is nearest to the entropy, until they reach the mass (Meister et al. 2023).
void Warpers::keep_typical(double mass) {
  const float highest = weigh();
  const double expected = entropy(highest), log_total = std::log(total_);
  const auto distance = [&](const TokenScore& c) {
    return float(std::abs(log_total - (double(c.score) - highest) - expected));
  };
  ranked_.resize(candidates_.size());
  for (std::size_t i = 0; i < ranked_.size(); ++i)
    ranked_[i] = {distance(candidates_[i]), weights_[i], candidates_[i].id};
  const float last = cutoff(mass * total_).key;
  keep_if([&](const TokenScore& c, float) { return distance(c) <= last; });
}

// Probability at least ε; the most probable token stays (Hewitt et al. 2022).
void Warpers::keep_above_epsilon(double epsilon) {
  const float highest = weigh();
  keep_if([&](const TokenScore& c, float weight) { return weight >= epsilon * total_ || c.score == highest; });
}

// The same with the bound min(ε, √ε · exp(−entropy)): lower where the model itself is unsure.
void Warpers::keep_above_eta(double epsilon) {
  const float highest = weigh();
  const double eta = std::min(epsilon, std::sqrt(epsilon) * std::exp(-entropy(highest)));
  keep_if([&](const TokenScore& c, float weight) { return weight >= eta * total_ || c.score == highest; });
}

void Warpers::apply(const SamplingParams& rules, std::span<const float> scores) {
  // Before the temperature, which keeps the order: only what is left needs it.
  keep_top_k(scores, rules.top_k > 0 ? rules.top_k : int(scores.size()));
  if (candidates_.empty()) return;
  if (rules.temperature != 1) apply_temperature(rules.temperature);
  if (rules.top_p < 1) keep_top_p(rules.top_p);
  if (rules.min_p > 0) keep_min_p(rules.min_p);
  if (rules.typical_p < 1) keep_typical(rules.typical_p);
  if (rules.epsilon_cutoff > 0) keep_above_epsilon(rules.epsilon_cutoff);
  if (rules.eta_cutoff > 0) keep_above_eta(rules.eta_cutoff);
  weigh();
}

}  // namespace dialo
