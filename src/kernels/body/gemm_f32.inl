// out = a · weightᵀ + bias in float32, over weights stored as T (float or half): a register tile of R rows × B blocks of 16 outputs, K in order.

// One row's share of one k; as in gemm_i8.inl, the broadcast stands where it is used.
template <int Row, int B, int... Blocks>
DIALO_INLINE void step_row_f32(Vec* sum, const float* a, const Vec* weight, Indices<Blocks...>) {
  const Vec x = vset1(*a);
  ((sum[Row * B + Blocks] = vfma(x, weight[Blocks], sum[Row * B + Blocks])), ...);
}

template <int B, class T, int... Rows, int... Blocks>
DIALO_INLINE void step_f32(Vec* sum, const float* a, int64_t lda, const T* w, int64_t block_size, Indices<Rows...>,
                           Indices<Blocks...> blocks) {
  const Vec weight[B] = {vload(w + Blocks * block_size)...};
  (step_row_f32<Rows, B>(sum, a + Rows * lda, weight, blocks), ...);
}

template <class T>
DIALO_INLINE void store_f32(const GemmFloat<T>& g, Vec y, int row, int block) {
  const int64_t n = int64_t(block) * kLanes;
  float* out = g.out + row * g.ldo + n;
  if (g.bias) y = vadd(y, vload(g.bias + n));
  if (g.accumulate) y = vadd(vload(out), y);
  vstore(out, y);
}

// `ahead` as in gemm_i8.inl, counted in elements.
template <int R, int B, class T, int... I, int... Blocks>
DIALO_INLINE void tile_f32(const GemmFloat<T>& g, int row, int block, Ahead ahead, Indices<I...>, Indices<Blocks...>) {
  const int64_t block_size = int64_t(g.K) * kLanes;
  const float* a = g.a + row * g.lda;
  const T* w = g.weight + block * block_size;
  Vec sum[R * B] = {(void(I), vset1(0.0f))...};
  const T* next = w + ahead.offset;
  for (int k = 0; k < g.K; ++k, w += kLanes, next += ahead.stride) {
    if constexpr (R == 1 || kTileAhead) (__builtin_prefetch(next + Blocks * block_size, 0, 2), ...);
    step_f32<B>(sum, a + k, g.lda, w, block_size, UpTo<R>(), UpTo<B>());
  }
  (store_f32(g, sum[I], row + I / B, block + I % B), ...);
}

template <int R, class T>
static void rows_f32(const GemmFloat<T>& g, int row, int rows, int block0, int block1, Ahead ahead) {
  if (rows == R) {
    constexpr int B = R == 1 ? kF32RowBlocks : kF32Blocks;
    int block = block0;
    for (; block + B <= block1; block += B) tile_f32<R, B>(g, row, block, ahead, UpTo<R * B>(), UpTo<B>());
    for (; block < block1; ++block) tile_f32<R, 1>(g, row, block, ahead, UpTo<R>(), UpTo<1>());
    return;
  }
  if constexpr (R > 1) rows_f32<R - 1>(g, row, rows, block0, block1, ahead);
}

template <class T>
DIALO_INLINE void gemm_float(const GemmFloat<T>& g, int row0, int row1, int block0, int block1) {
  // A few blocks of weights stay in the cache while all rows pass over them.
  const int width = row1 - row0 == 1 ? kF32RowBlocks : kF32Blocks;
  const int passes = (row1 - row0 + kF32Rows - 1) / kF32Rows, stride = kLanes / passes;
  for (int block = block0; block < block1; block += width) {
    const int end = block + width < block1 ? block + width : block1;
    for (int row = row0; row < row1; row += kF32Rows) {
      const int pass = (row - row0) / kF32Rows;
      const Ahead ahead{(int64_t{width} * kLanes + pass * stride) * g.K, stride};
      rows_f32<kF32Rows>(g, row, row1 - row < kF32Rows ? row1 - row : kF32Rows, block, end, ahead);
    }
  }
}

static void gemm_f32(const GemmF32& g, int row0, int row1, int block0, int block1) {
  gemm_float(g, row0, row1, block0, block1);
}
static void gemm_f16(const GemmF16& g, int row0, int row1, int block0, int block1) {
  gemm_float(g, row0, row1, block0, block1);
}
