// Where do the numbers of a GPT-2 lie? Views into packed arrays that somebody else keeps alive.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/linear.h"
#include "model/arrays.h"
#include "model/config.h"

namespace dialo {

struct BlockWeights {
  NormWeights ln_1, ln_2;
  std::unique_ptr<const Linear> c_attn, attn_proj, c_fc, mlp_proj;
};

class Weights {
 public:
  // std::invalid_argument names the first array that is missing or misshaped. See tensor_table() for the names; a
  // linear's arrays are the parts of its format, and each linear has a format of its own.
  Weights(Config config, Arrays arrays);

  const Config& config() const { return config_; }
  int64_t bytes() const { return bytes_; }
  // The format of most of them: that of the embedding.
  const LinearFormat& format() const { return *format_; }

  std::shared_ptr<const Linear> wte;   // (V, C): the embedding and, when tied, the head
  std::shared_ptr<const Linear> head;  // (outputs, C)
  const float* wpe;                    // (T, C), rows padded to kLanes
  std::vector<BlockWeights> blocks;
  NormWeights ln_f;

 private:
  Config config_;
  Arrays arrays_;  // owns the memory that the views show
  const LinearFormat* format_;
  int64_t bytes_ = 0;
};

}  // namespace dialo
