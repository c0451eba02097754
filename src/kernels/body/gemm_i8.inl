// out = qa · qweightᵀ in int8, scaled back to float32: which tile comes when. One tile is dot_i8.inl's, or the ISA's own.

template <int R>
static void rows_i8(const GemmI8& g, const uint8_t* a, int64_t step, int row, int rows, int block0, int block1,
                    Ahead ahead) {
  if (rows == R) {
    constexpr int B = R == 1 ? kI8RowBlocks : kI8Blocks;
    int block = block0;
    for (; block + B <= block1; block += B) tile_i8<R, B>(g, a, step, row, block, ahead);
    for (; block < block1; ++block) tile_i8<R, 1>(g, a, step, row, block, ahead);
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
