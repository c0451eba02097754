// Among which tokens does sampling draw, and how probable is each? transformers' logits warpers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "sampling/sampling.h"

namespace dialo {

// A token that may be chosen.
struct TokenScore {
  float score;
  int32_t id;
};

// The scratch memory of one caller; not shared between threads.
class Warpers {
 public:
  explicit Warpers(const Kernels& kernels) : kernels_(kernels) {}

  // All of them, in transformers' order. At least one token stays, unless `scores` (V) bans all.
  void apply(const SamplingParams& rules, std::span<const float> scores);

  // The k highest of `scores`, and whatever equals the last of them; none that is banned.
  void keep_top_k(std::span<const float> scores, int k);

  // What is kept, in the order of ids. P(candidates()[i]) = weights()[i] / total() after `apply`.
  std::span<TokenScore> candidates() { return candidates_; }
  std::span<const float> weights() const { return weights_; }
  double total() const { return total_; }

 private:
  // A candidate in the order in which a rule prefers them: the smallest key first, of equal keys the smallest id.
  struct Ranked {
    float key;
    float weight;
    int32_t id;
  };

  void apply_temperature(double temperature);
  void keep_top_p(double p);
  void keep_min_p(double p);
  void keep_typical(double mass);
  void keep_above_epsilon(double epsilon);
  void keep_above_eta(double epsilon);

  float highest_score();
  float weigh();
  double entropy(float highest) const;
  Ranked cutoff(double target);
  template <class Keep>
  void keep_if(const Keep& keep);

  const Kernels& kernels_;
  std::vector<TokenScore> candidates_;
  std::vector<float> weights_;  // exp(score − the highest) of each candidate; scratch while top-k is sought
  std::vector<Ranked> ranked_;
  std::vector<double> mass_;  // of each bin of keys
  double total_ = 0;          // Σ weights
};

}  // namespace dialo
