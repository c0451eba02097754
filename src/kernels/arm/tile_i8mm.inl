// A tile of several rows by USMMLA: 2 rows × 8 inputs times 2 outputs × 8 inputs, twice the products of a dot product.
// The eight inputs are two groups, which lie apart in the packed file and in the packed activations: zips bring them
// together. `Q` registers of each group, 4 · Q outputs, are taken in one pass over the inputs.

template <int Q, int... I, int... Quads>
DIALO_INLINE void step_pairs(int32x4_t* sum, const uint8x16_t* pair, const int8_t* w, const int8_t* w2,
                             std::integer_sequence<int, I...>, std::integer_sequence<int, Quads...>) {
  const int32x4_t first[Q] = {vreinterpretq_s32_s8(vld1q_s8(w + 16 * Quads))...};
  const int32x4_t last[Q] = {vreinterpretq_s32_s8(vld1q_s8(w2 + 16 * Quads))...};
  const int32x4_t lo[Q] = {vzip1q_s32(first[Quads], last[Quads])...};
  const int32x4_t hi[Q] = {vzip2q_s32(first[Quads], last[Quads])...};
  ((sum[I] = vusmmlaq_s32(sum[I], pair[I / (2 * Q)],
                          vreinterpretq_s8_s32(I % 2 ? hi[I % (2 * Q) / 2] : lo[I % (2 * Q) / 2]))),
   ...);
}

template <int R, int... Pairs>
DIALO_INLINE void zip_rows(uint8x16_t* pair, const Rows<R>& first, const Rows<R>& last,
                           std::integer_sequence<int, Pairs...>) {
  ((pair[Pairs] = vreinterpretq_u8_u32(
        Pairs % 2 ? vzip2q_u32(vreinterpretq_u32_u8(first.q[Pairs / 2]), vreinterpretq_u32_u8(last.q[Pairs / 2]))
                  : vzip1q_u32(vreinterpretq_u32_u8(first.q[Pairs / 2]), vreinterpretq_u32_u8(last.q[Pairs / 2])))),
   ...);
}

// The sums of R rows and 4 · Q outputs to `out`, rows kLanes apart.
template <int R, int Q, int... I>
DIALO_INLINE void pairs_pass(const GemmI8& g, const uint8_t* a, int64_t step, const int8_t* w, int32_t* out,
                             std::integer_sequence<int, I...> each) {
  constexpr int P = (R + 1) / 2;
  int32x4_t sum[P * Q * 2] = {(void(I), vdupq_n_s32(0))...};
  uint8x16_t pair[P];
  int k = 0;
  for (; k + 2 <= g.groups; k += 2, a += 2 * step, w += 2 * kBlockBytes) {
    zip_rows<R>(pair, rows_load<R>(a), rows_load<R>(a + step), UpTo<P>());
    step_pairs<Q>(sum, pair, w, w + kBlockBytes, each, UpTo<Q>());
  }
  if (k < g.groups) {  // zeros beside the last activations: what stands beside the last weights does not matter
    zip_rows<R>(pair, rows_load<R>(a), Rows<R>{}, UpTo<P>());
    step_pairs<Q>(sum, pair, w, w, each, UpTo<Q>());
  }
  // Sum I belongs to rows 2p, 2p + 1 and outputs 2o, 2o + 1.
  const auto store = [&](int p, int o, int32x4_t s) {
    vst1_s32(out + 2 * p * kLanes + 2 * o, vget_low_s32(s));
    if (2 * p + 1 < R) vst1_s32(out + (2 * p + 1) * kLanes + 2 * o, vget_high_s32(s));
  };
  (store(I / (2 * Q), I % (2 * Q), sum[I]), ...);
}

template <int R, int B>
  requires(R > 1)
DIALO_INLINE void tile_i8(const GemmI8& g, const uint8_t* a, int64_t step, int row, int block, Ahead) {
  static_assert(B == 1);
  constexpr int Q = R > 6 ? 2 : 4, P = (R + 1) / 2;
  const int8_t* w = g.weight + block * int64_t(g.groups) * kBlockBytes;
  int32_t sums[R * kLanes];
  for (int q = 0; q < 4; q += Q) pairs_pass<R, Q>(g, a, step, w + 16 * q, sums + 4 * q, UpTo<P * Q * 2>());
  for (int r = 0; r < R; ++r) store_i8(g, acc_load(sums + r * kLanes), row + r, block);
}
