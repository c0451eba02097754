// out = qa · qweightᵀ in int8, scaled back to float32: a register tile of R rows × B blocks of 16 outputs.
// The ISA gives Acc (16 int32 lanes), Act (4 bytes of one row, broadcast), Weight (64 bytes), dot(acc, act, weight) and
// kOffset: what its products subtract from each byte (0 where the instruction takes unsigned bytes, else 128).

constexpr int kBlockBytes = kLanes * kGroup;

// One row's share of a k-step. Its activations are broadcast here and not before: all of a tile's at once would not fit
// into the registers beside its sums. Sum I of a tile belongs to row I / B and block I % B.
template <int Row, int B, int... Blocks>
DIALO_INLINE void step_row_i8(Acc* sum, const uint8_t* a, const Weight* weight, Indices<Blocks...>) {
  const Act act = act_broadcast(a + Row * kGroup);
  ((sum[Row * B + Blocks] = dot(sum[Row * B + Blocks], act, weight[Blocks])), ...);
}

template <int B, int... Rows, int... Blocks>
DIALO_INLINE void step_i8(Acc* sum, const uint8_t* a, const int8_t* w, int64_t block_size, Indices<Rows...>,
                          Indices<Blocks...> blocks) {
  const Weight weight[B] = {weight_load(w + Blocks * block_size)...};
  (step_row_i8<Rows, B>(sum, a, weight, blocks), ...);
}

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

// `a` points at the tile's first row, whose groups are `step` bytes apart.
template <int R, int B, int... I, int... Blocks>
DIALO_INLINE void tile_i8(const GemmI8& g, const uint8_t* a, int64_t step, int row, int block, Ahead ahead, Indices<I...>,
                          Indices<Blocks...>) {
  const int64_t block_size = int64_t(g.groups) * kBlockBytes;
  const int8_t* w = g.weight + block * block_size;
  Acc sum[R * B] = {(void(I), acc_zero())...};
  const int8_t* next = w + ahead.offset;
  for (int k = 0; k < g.groups; ++k, w += kBlockBytes, a += step, next += ahead.stride) {
    if constexpr (R == 1 || kTileAhead) (__builtin_prefetch(next + Blocks * block_size, 0, 2), ...);
    step_i8<B>(sum, a, w, block_size, UpTo<R>(), UpTo<B>());
  }
  (store_i8(g, sum[I], row + I / B, block + I % B), ...);
}

template <int R>
static void rows_i8(const GemmI8& g, const uint8_t* a, int64_t step, int row, int rows, int block0, int block1,
                    Ahead ahead) {
  if (rows == R) {
    constexpr int B = R == 1 ? kI8RowBlocks : kI8Blocks;
    int block = block0;
    for (; block + B <= block1; block += B) tile_i8<R, B>(g, a, step, row, block, ahead, UpTo<R * B>(), UpTo<B>());
    for (; block < block1; ++block) tile_i8<R, 1>(g, a, step, row, block, ahead, UpTo<R>(), UpTo<1>());
    return;
  }
  if constexpr (R > 1) rows_i8<R - 1>(g, a, step, row, rows, block0, block1, ahead);
}

static void gemm_i8(const GemmI8& g, int M, int row0, int row1, int block0, int block1) {
  const int64_t row_bytes = int64_t(g.groups) * kGroup;
  // A few blocks of weights stay in the cache while all rows pass over them.
  const int width = row1 - row0 == 1 ? kI8RowBlocks : kI8Blocks;
  const int passes = (row1 - row0 + kI8Rows - 1) / kI8Rows;
  for (int block = block0; block < block1; block += width) {
    const int end = block + width < block1 ? block + width : block1;
    for (int tile = row0; tile < row1; tile += kTileRows) {
      const int height = M - tile < kTileRows ? M - tile : kTileRows;  // as it was packed
      const int rows = row1 - tile < height ? row1 - tile : height;
      const uint8_t* a = g.a + tile * row_bytes;
      for (int r = 0; r < rows; r += kI8Rows) {
        const int some = rows - r < kI8Rows ? rows - r : kI8Rows;
        const int pass = (tile - row0 + r) / kI8Rows, stride = kBlockBytes / passes;
        const Ahead ahead{(width * int64_t{kLanes} * kGroup + pass * stride) * g.groups, stride};
        rows_i8<kI8Rows>(g, a + r * kGroup, int64_t(height) * kGroup, tile + r, some, block, end, ahead);
      }
    }
  }
}
