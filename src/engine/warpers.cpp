#include "engine/warpers.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "engine/row.h"

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
  float highest = kBanned;
  for (const Candidate& c : candidates_) highest = std::max(highest, c.score);
  for (Candidate& c : candidates_) c.score = (c.score - highest) / divisor;
}

// Fills weights_ and total_; returns the highest score, whose weight is 1.
float Warpers::weigh() {
  weights_.resize(candidates_.size());
  float highest = kBanned;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    weights_[i] = candidates_[i].score;
    highest = std::max(highest, weights_[i]);
  }
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

// The first of ranked_, in their order, with which the weights reach the target. Selection, not a sort: it first finds
// out how long the head must be, then halves the stretch in which the cutoff lies.
Warpers::Ranked Warpers::cutoff(double target) {
  const auto before = [](const Ranked& a, const Ranked& b) { return a.key != b.key ? a.key < b.key : a.id < b.id; };
  std::size_t first = 0, last = ranked_.size(), width = 64;
  bool bracketed = false;
  double sum = 0;
  while (last - first > 32) {
    const std::size_t middle = bracketed ? first + (last - first) / 2 : std::min(first + width, last - 1);
    std::nth_element(ranked_.begin() + first, ranked_.begin() + middle, ranked_.begin() + last, before);
    double more = 0;
    for (std::size_t i = first; i < middle; ++i) more += ranked_[i].weight;
    if (sum + more >= target) {
      last = middle;
      bracketed = true;
    } else {
      sum += more;
      first = middle;
      width *= 8;
    }
  }
  std::sort(ranked_.begin() + first, ranked_.begin() + last, before);
  while (first + 1 < last && (sum += ranked_[first].weight) < target) ++first;
  return ranked_[first];
}

// The smallest set of most probable tokens whose probabilities reach p (Holtzman et al. 2020).
void Warpers::keep_top_p(double p) {
  weigh();
  ranked_.resize(candidates_.size());
  for (std::size_t i = 0; i < ranked_.size(); ++i) ranked_[i] = {-candidates_[i].score, weights_[i], candidates_[i].id};
  const Ranked last = cutoff(p * total_);
  keep_if([&](const Candidate& c, float) { return -c.score != last.key ? -c.score < last.key : c.id <= last.id; });
}

// At least p times as probable as the most probable token (Nguyen et al. 2024).
void Warpers::keep_min_p(double p) {
  weigh();
  keep_if([&](const Candidate&, float weight) { return weight >= float(p); });
}

// The tokens whose surprise is nearest to the entropy, until they reach the mass (Meister et al. 2023).
void Warpers::keep_typical(double mass) {
  const float highest = weigh();
  const double expected = entropy(highest), log_total = std::log(total_);
  const auto distance = [&](const Candidate& c) {
    return float(std::abs(log_total - (double(c.score) - highest) - expected));
  };
  ranked_.resize(candidates_.size());
  for (std::size_t i = 0; i < ranked_.size(); ++i) ranked_[i] = {distance(candidates_[i]), weights_[i], candidates_[i].id};
  const float last = cutoff(mass * total_).key;
  keep_if([&](const Candidate& c, float) { return distance(c) <= last; });
}

// Probability at least ε; the most probable token stays (Hewitt et al. 2022).
void Warpers::keep_above_epsilon(double epsilon) {
  const float highest = weigh();
  keep_if([&](const Candidate& c, float weight) { return weight >= epsilon * total_ || c.score == highest; });
}

// The same with the bound min(ε, √ε · exp(−entropy)): lower where the model itself is unsure.
void Warpers::keep_above_eta(double epsilon) {
  const float highest = weigh();
  const double eta = std::min(epsilon, std::sqrt(epsilon) * std::exp(-entropy(highest)));
  keep_if([&](const Candidate& c, float weight) { return weight >= eta * total_ || c.score == highest; });
}

void Warpers::apply(const Sampling& rules, std::span<const float> scores) {
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
