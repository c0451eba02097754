// Which token follows these logits? Hugging Face's rules, in its order: processors (penalties, bans) on the logits,
// then, when sampling, warpers (temperature, top-k, top-p), then one draw.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampling.h"
#include "kernels/kernels.h"

namespace dialo {

// A token that may still be chosen.
struct Candidate {
  float logit;
  int32_t id;
};

// The scratch memory of one sampler; not shared between threads.
class Sampler {
 public:
  explicit Sampler(const Kernels& kernels) : kernels_(kernels) {}

  // `logits` (V) are changed in place. `tokens`: the whole sequence so far; the next position is tokens.size().
  // BackendError when a logit is not finite.
  int32_t choose(const Sampling& rules, std::span<const int32_t> tokens, std::span<float> logits);

  // The distribution that `choose` draws from: probability of each id, 0 for those that the rules remove.
  std::vector<float> distribution(const Sampling& rules, std::span<const int32_t> tokens, std::span<float> logits);

 private:
  void process(const Sampling& rules, std::span<const int32_t> tokens, std::span<float> logits);
  void warp(const Sampling& rules, std::span<const float> logits);
  void keep_top_k(std::span<const float> logits, int k);
  void apply_temperature(double temperature);
  void keep_top_p(double p);
  void to_probabilities();

  const Kernels& kernels_;
  std::vector<Candidate> candidates_;
  std::vector<float> values_;  // scratch of top-k; then the candidates' probabilities, not yet divided by total_
  double total_ = 0;
};

// A number in [0, 1) from (seed, position) alone, so that neither neighbours nor threads change a reply.
double uniform(uint64_t seed, uint64_t position);

}  // namespace dialo
