// How does this CPU do arithmetic? One table of functions, and the contract of each.
//
// Every function gives the same bits on every ISA, for every split of its rows and blocks:
//   - a vector is 16 float lanes everywhere (one zmm, two ymm, four NEON or SSE registers), reduced in one fixed tree;
//   - a sum over K runs in order, one fused multiply-add per element, and never over several accumulators;
//   - integer sums are exact.
// Letters: M rows, N outputs, K inputs of a linear, D head size.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/activation.h"

namespace dialo {

inline constexpr int kLanes = 16;    // lanes of a vector; outputs in a packed block of weights
inline constexpr int kGroup = 4;     // inputs that one int8 dot-product instruction takes
inline constexpr int kTileRows = 8;  // rows of activations that are packed together for an int8 product
inline constexpr int kPage = 32;     // positions in one page of the KV cache, and in one step of the online softmax

// out (M, N) = a (M, K) · weightᵀ + bias, or out += the same, in float32; the weights may be stored in half precision,
// which is exact.  Rows of `out` are `ldo` floats apart and padded to kLanes; so are `bias` and the scales.
template <class T>
struct GemmFloat {
  const float* a;  // (M, K), rows `lda` apart
  int64_t lda;
  const T* weight;    // packed [N/16][K][16]
  const float* bias;  // (N) or null
  float* out;
  int64_t ldo;
  int K;
  bool accumulate;
};
using GemmF32 = GemmFloat<float>;
using GemmF16 = GemmFloat<uint16_t>;

// The same over int8: out = (Σ_k (qa − a_zero[m])·qw) · a_scale[m] · w_scale[n] + bias[n].
struct GemmI8 {
  const uint8_t* a;       // quantised rows, packed by quantize_tile: tiles of kTileRows, [K/4][rows][4]
  const float* a_scale;   // (M)
  const int32_t* a_zero;  // (M): the byte that stands for 0
  const int8_t* weight;  // packed [N/16][K/4][16][4]
  const float* w_scale;  // (N)
  const int32_t* w_sum;  // (N): Σ_k qw[n][k], what each unit of a_zero adds to every product
  const float* bias;     // (N) or null
  float* out;
  int64_t ldo;
  int groups;  // K/4, rounded up
  bool accumulate;
  int32_t* raw;  // if not null: the exact integer sums (M, N), rows `ldo` apart, and nothing else is written
};

// One head of one sequence: append the rows' keys and values to the pages, then attend from each row to every position
// up to its own.  A page of one head holds keys as [kPage/16][D][16] and values as [D/16][kPage][16] (D rounded up to
// 16), so that both products are the packed-weights product again.
struct AttentionHead {
  const float* q;  // row r at q + r·ld; keys and values likewise
  const float* k;
  const float* v;
  int64_t ld;
  float* out;  // row r at out + r·ldo: D floats
  int64_t ldo;
  int rows;
  int64_t first_position;
  void* const* pages;   // the sequence's pages; element type is the function's
  int64_t page_offset;  // bytes from the page's start to this head's keys
  int D;
  float scale;     // of q·k
  float* scratch;  // attention_scratch(D) floats
};

constexpr int64_t head_width(int D) { return (D + kLanes - 1) / kLanes * kLanes; }
constexpr int64_t head_page_elements(int D) { return int64_t{kPage} * (D + head_width(D)); }
constexpr int64_t attention_scratch(int D) { return kTileRows * (2 * head_width(D) + kPage + 2); }

struct Kernels {
  // Rows are any number from 1; blocks [block0, block1) of 16 outputs.
  void (*gemm_f32)(const GemmF32&, int row0, int row1, int block0, int block1);
  void (*gemm_f16)(const GemmF16&, int row0, int row1, int block0, int block1);
  // `row0` is a multiple of kTileRows.  `M` is the number of rows that were packed: the last tile may be lower.
  void (*gemm_i8)(const GemmI8&, int M, int row0, int row1, int block0, int block1);
  // x: `rows` ≤ kTileRows rows of K floats -> [K/4][rows][4] bytes, round(x / scale) + zero, with one scale and one zero a
  // row: its 256 steps reach from its smallest to its largest value (0 included), so that a row which is almost all
  // positive, as after gelu, does not waste half of them.
  void (*quantize_tile)(const float* x, int64_t ldx, int rows, int K, uint8_t* out, float* scale, int32_t* zero);
  void (*attention_f32)(const AttentionHead&);
  void (*attention_f16)(const AttentionHead&);
  // out = (x − mean) / sqrt(var + eps) · gain + bias over n values.
  void (*layer_norm)(const float* x, int n, const float* gain, const float* bias, float eps, float* out);
  // out = f(x) over n values; may be in place.
  void (*activate)(Activation, const float* x, int n, float* out);
  // Σ exp(x[i] − shift); out[i] = exp(x[i] − shift) if `out` is not null.
  float (*exp_sum)(const float* x, int n, float shift, float* out);
  // The most that the products could do if nothing ever had to come from memory: `rounds` rounds of independent
  // dot-product steps. Returns how many products of two numbers those were.
  int64_t (*peak_i8)(int rounds);
  int64_t (*peak_f32)(int rounds);
};

// One rung of the ladder, as data.
struct Rung {
  const char* name;           // what DIALOCPP_ISA says
  const char* sentence;       // what `dialocpp info` says
  uint32_t needs;             // bits of features
  void (*overlay)(Kernels&);  // replaces what this ISA does better
};

// In climbing order; the first is `scalar`, which needs nothing.
std::span<const Rung> ladder();
// The features that this CPU has and that some rung may need, as bits and as Linux names them.
uint32_t cpu_features();
std::vector<std::string> feature_names(uint32_t bits);

// The kernels of the highest rung that this CPU can run, or of the one that DIALOCPP_ISA names.
// BackendError when that name is unknown or the CPU lacks what it needs.
const Kernels& kernels();
const Rung& chosen_rung();
// The kernels of one rung, for tests.  BackendError as above.
Kernels kernels_of(const char* name);

}  // namespace dialo
