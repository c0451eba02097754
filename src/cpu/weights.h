// Where do the numbers of a GPT-2 lie? Views into packed arrays that somebody else keeps alive.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"

namespace dialo {

enum class ElementType { kF32, kF16, kI8, kI32 };

// An array as the host hands it over: `owner` keeps the memory alive.
struct Array {
  ElementType type;
  std::vector<int64_t> shape;
  const void* data;
  std::shared_ptr<const void> owner;
};
using Arrays = std::map<std::string, Array>;

// y = x · weightᵀ + bias.  One of three formats; the arrays of the others are null.
struct LinearWeights {
  int K = 0, N = 0;  // inputs, outputs
  const float* f32 = nullptr;      // packed [N/16][K][16]
  const uint16_t* f16 = nullptr;   // packed [N/16][K][16], half precision
  const int8_t* i8 = nullptr;      // packed [N/16][K/4][16][4]
  const float* scale = nullptr;    // (N) of i8
  const int32_t* sum = nullptr;    // (N) of i8
  const float* bias = nullptr;     // (N)
};

struct NormWeights {
  const float* gain;  // (C)
  const float* bias;  // (C)
};

struct BlockWeights {
  NormWeights ln_1, ln_2;
  LinearWeights c_attn, attn_proj, c_fc, mlp_proj;
};

class Weights {
 public:
  // std::invalid_argument names the first array that is missing or misshaped. See tensor_table() for the names.
  Weights(Config config, Arrays arrays);

  const Config& config() const { return config_; }
  int64_t bytes() const { return bytes_; }
  bool is_int8() const { return wte.i8 != nullptr; }

  LinearWeights wte;   // (V, C): the embedding and, when tied, the head
  LinearWeights head;  // (outputs, C); its format may differ from that of the others
  const float* wpe;    // (T, C), rows padded to kLanes
  std::vector<BlockWeights> blocks;
  NormWeights ln_f;

 private:
  Config config_;
  Arrays arrays_;  // owns the memory that the views show
  int64_t bytes_ = 0;
};

}  // namespace dialo
