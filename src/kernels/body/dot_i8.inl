// One tile of the int8 product by dot products: R rows × B blocks of 16 outputs, whose sums stay in registers.
// The ISA gives
//   kGroupsAtOnce  U, the groups of inputs in one step; what is left at the end is taken one by one
//   acts_load<R, U>(a, step), act_of<Row>(acts)  the activations of R rows, and one row's
//   weights_load<U>(w)         one block's weights
//   Sum, dot(sum, act, weights), acc_of(sum)  what is summed in one row of one block, and its 16 int32 lanes (Acc)
//   kOffset        what its products subtract from each byte: 0 where the instruction takes unsigned bytes, else 128
// An ISA whose dot product wants four bytes in every lane takes the first of these from broadcast.inl.

constexpr int kBlockBytes = kLanes * kGroup;

DIALO_INLINE void store_i8(const GemmI8& g, Acc sum, int row, int block) {
  const int64_t n = int64_t(block) * kLanes;
  sum = acc_sub(sum, acc_times(acc_load(g.w_sum + n), g.a_zero[row] - kOffset));
  if (g.raw) return acc_store(g.raw + row * g.ldo + n, sum);
  float* out = g.out + row * g.ldo + n;
  const Vec scale = vmul(vset1(g.a_scale[row]), vload(g.w_scale + n));
  Vec y = vfma(acc_float(sum), scale, g.bias ? vload(g.bias + n) : vset1(0.0f));
  if (g.accumulate) y = vadd(vload(out), y);
  vstore(out, y);
}

// One row's share of a step. Its activations are spread here and not before: all of a tile's at once would not fit into
// the registers beside its sums. Sum I of a tile belongs to row I / B and block I % B.
template <int Row, int B, class Acts, class Weights, int... Blocks>
DIALO_INLINE void step_row_i8(Sum* sum, const Acts& acts, const Weights* weights, Indices<Blocks...>) {
  const auto act = act_of<Row>(acts);
  ((sum[Row * B + Blocks] = dot(sum[Row * B + Blocks], act, weights[Blocks])), ...);
}

template <int R, int B, int U, int... Rows, int... Blocks>
DIALO_INLINE void step_i8(Sum* sum, const uint8_t* a, int64_t step, const int8_t* w, int64_t block_size,
                          Indices<Rows...>, Indices<Blocks...> blocks) {
  const auto acts = acts_load<R, U>(a, step);
  const decltype(weights_load<U>(w)) weights[B] = {weights_load<U>(w + Blocks * block_size)...};
  (step_row_i8<Rows, B>(sum, acts, weights, blocks), ...);
}

template <int R, int B, int... I, int... Blocks>
DIALO_INLINE void tile_by_dots(const GemmI8& g, const uint8_t* a, int64_t step, int row, int block, Ahead ahead,
                               Indices<I...>, Indices<Blocks...>) {
  constexpr int U = kGroupsAtOnce;
  const int64_t block_size = int64_t(g.groups) * kBlockBytes;
  const int8_t* w = g.weight + block * block_size;
  Sum sum[R * B] = {(void(I), Sum{})...};
  const int8_t* next = w + ahead.offset;
  int k = 0;
  for (; k + U <= g.groups; k += U, w += U * kBlockBytes, a += U * step, next += U * ahead.stride) {
    if constexpr (R == 1 || kTileAhead) prefetch_weights<U>(next, ahead.stride, block_size, UpTo<B>());
    step_i8<R, B, U>(sum, a, step, w, block_size, UpTo<R>(), UpTo<B>());
  }
  if constexpr (U > 1) {
    for (; k < g.groups; ++k, w += kBlockBytes, a += step) {
      step_i8<R, B, 1>(sum, a, step, w, block_size, UpTo<R>(), UpTo<B>());
    }
  }
  (store_i8(g, acc_of(sum[I]), row + I / B, block + I % B), ...);
}

// `a` points at the tile's first row, whose groups are `step` bytes apart.
template <int R, int B>
DIALO_INLINE void tile_i8(const GemmI8& g, const uint8_t* a, int64_t step, int row, int block, Ahead ahead) {
  tile_by_dots<R, B>(g, a, step, row, block, ahead, UpTo<R * B>(), UpTo<B>());
}
