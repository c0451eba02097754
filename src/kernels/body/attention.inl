// Causal attention of one head over the paged cache, with the online softmax (Milakov & Gimelshein 2018):
//   for each page: scores = q·Kᵀ, a running maximum, p = exp(scores − maximum), out = out · correction + p·V.
// A row's arithmetic depends on its own position only: pages from the first to its own, whatever rows stand beside it.

template <class T>
DIALO_INLINE T* head_page(const AttentionHead& h, int64_t page) {
  return reinterpret_cast<T*>(static_cast<char*>(h.pages[page]) + h.page_offset);
}

// Returns 0 · every query, key and value of the row: NaN when one is not finite.
template <class T>
DIALO_INLINE Vec store_row(const AttentionHead& h, int row) {
  const int64_t position = h.first_position + row;
  T* keys = head_page<T>(h, position / kPage);
  T* values = keys + int64_t{kPage} * h.D;
  const int slot = int(position % kPage);
  keys += int64_t(slot / kLanes) * h.D * kLanes + slot % kLanes;
  values += int64_t(slot) * kLanes;
  // Half precision ends at 65504: a larger value must not become an infinity that turns 0 · v into NaN.
  const Vec high = vset1(sizeof(T) == 2 ? 65504.0f : 3.4e38f), low = vset1(sizeof(T) == 2 ? -65504.0f : -3.4e38f);
  const Vec zero = vset1(0.0f);
  Vec damage = zero;
  for (int d = 0; d < h.D; d += kLanes) {
    const int n = h.D - d < kLanes ? h.D - d : kLanes;
    const Vec k = n == kLanes ? vload(h.k + row * h.ld + d) : vload_n(h.k + row * h.ld + d, n);
    const Vec v = n == kLanes ? vload(h.v + row * h.ld + d) : vload_n(h.v + row * h.ld + d, n);
    T lanes[kLanes];
    vstore(lanes, vmin(vmax(k, low), high));
    for (int l = 0; l < n; ++l) keys[(d + l) * kLanes] = lanes[l];
    vstore(values + int64_t(d) * kPage, vmin(vmax(v, low), high));
    const Vec q = n == kLanes ? vload(h.q + row * h.ld + d) : vload_n(h.q + row * h.ld + d, n);
    damage = vfma(q, zero, vfma(k, zero, vfma(v, zero, damage)));
  }
  return damage;
}

// A page's values follow its keys, at the same distance from each of them.
template <class T>
DIALO_INLINE void prefetch_beside(const T* keys, int D) {
  __builtin_prefetch(keys + int64_t{kPage} * D);
}

// scores (R, kPage) of each of P pages = q (R, D) · keys: the product of gemm_f32.inl with 16 positions as a block.
// Row r's scores of the pages follow each other, `P · kPage` in all.
// While the keys are read, the values after them come from memory.
template <int R, int P, class T, int... I, int... Rows, int... Blocks>
DIALO_INLINE void scores_of_pages(const float* q, int64_t ldq, const T* const* pages, int D, float* scores,
                                  Indices<I...>, Indices<Rows...>, Indices<Blocks...> blocks) {
  constexpr int kOfPage = kPage / kLanes, B = P * kOfPage;
  Vec sum[R * B] = {(void(I), vset1(0.0f))...};
  for (int d = 0; d < D; ++d) {
    (prefetch_beside(pages[Blocks / kOfPage] + (int64_t(Blocks % kOfPage) * D + d) * kLanes, D), ...);
    const Vec key[B] = {vload(pages[Blocks / kOfPage] + (int64_t(Blocks % kOfPage) * D + d) * kLanes)...};
    (step_row_f32<Rows, B>(sum, q + Rows * ldq + d, key, blocks), ...);
  }
  (vstore(scores + I * kLanes, sum[I]), ...);
}

// W blocks of 16 values: out (R, W · 16) = out · correction + p (R, slots) · values. Sum I belongs to row I / W.
template <int W, int R, class T, int... I, int... Rows, int... Blocks>
DIALO_INLINE void some_values(const float* p, int64_t ldp, const float* correction, const T* values, int slots,
                              int64_t width, float* out, Indices<I...>, Indices<Rows...>, Indices<Blocks...> blocks) {
  Vec sum[R * W] = {vmul(vload(out + I / W * width + I % W * kLanes), vset1(correction[I / W]))...};
  for (int t = 0; t < slots; ++t, values += kLanes) {
    const Vec value[W] = {vload(values + Blocks * kPage * kLanes)...};
    (step_row_f32<Rows, W>(sum, p + Rows * ldp + t, value, blocks), ...);
  }
  (vstore(out + I / W * width + I % W * kLanes, sum[I]), ...);
}

// Several blocks at once: one row alone would wait for each sum's latency.
template <int R, class T>
DIALO_INLINE void values_of_page(const float* p, int64_t ldp, const float* correction, const T* values, int slots,
                                 int width, float* out) {
  constexpr int W = R == 1 ? 4 : kAttentionWidth;
  int d = 0;
  for (; d + W * kLanes <= width; d += W * kLanes) {
    some_values<W, R>(p, ldp, correction, values + d * kPage, slots, width, out + d, UpTo<R * W>(), UpTo<R>(), UpTo<W>());
  }
  for (; d < width; d += kLanes) {
    some_values<1, R>(p, ldp, correction, values + d * kPage, slots, width, out + d, UpTo<R>(), UpTo<R>(), UpTo<1>());
  }
}

// Scores become probabilities relative to the row's running maximum; returns what earlier results must be scaled by.
// Slots from `valid` on lie in the future.
DIALO_INLINE float softmax_step(float* scores, int valid, float* maximum, float* total) {
  const Vec never = vset1(-3.4e38f);
  Vec s[kPage / kLanes];
  Vec highest = vset1(*maximum);
  for (int b = 0; b < kPage / kLanes; ++b) {
    s[b] = vfirst(valid - b * kLanes, vload(scores + b * kLanes), never);
    highest = vmax(s[b], highest);
  }
  const float updated = vhighest(highest);
  float before[kLanes] = {*maximum - updated};
  const Vec shift = vset1(updated);
  Vec sum = vset1(0.0f);
  for (int b = 0; b < kPage / kLanes; ++b) {
    const Vec p = vfirst(valid - b * kLanes, vexp(vsub(s[b], shift)), vset1(0.0f));
    vstore(scores + b * kLanes, p);
    sum = vadd(sum, p);
  }
  vstore(before, vexp(vload(before)));
  *maximum = updated;
  *total = fma1(*total, before[0], vsum(sum));
  return before[0];
}

// What R rows carry from page to page.
template <int R>
struct Progress {
  float *q, *out, *scores;  // (R, width), (R, width), (R, P · kPage)
  float maximum[R], total[R];
};

// P pages from `page` on: their scores together, then page by page the softmax and the values.
template <int R, int P, class T>
DIALO_INLINE void attend_pages(const AttentionHead& h, int row, int64_t page, Progress<R>& so_far) {
  constexpr int B = P * kPage / kLanes;
  const int64_t width = head_width(h.D), last = h.first_position + row + R - 1;
  const T* keys[P];
  for (int i = 0; i < P; ++i) keys[i] = head_page<T>(h, page + i);
  scores_of_pages<R, P>(so_far.q, width, keys, h.D, so_far.scores, UpTo<R * B>(), UpTo<R>(), UpTo<B>());
  for (int i = 0; i < P; ++i) {
    const int64_t start = (page + i) * kPage;
    float* scores = so_far.scores + i * kPage;
    float correction[R];
    for (int r = 0; r < R; ++r) {
      const int64_t valid = h.first_position + row + r + 1 - start;
      // A page that lies wholly in this row's future changes nothing.
      correction[r] = softmax_step(scores + r * P * kPage, valid < 0 ? 0 : valid > kPage ? kPage : int(valid),
                                   &so_far.maximum[r], &so_far.total[r]);
    }
    const int slots = last + 1 - start < kPage ? int(last + 1 - start) : kPage;
    values_of_page<R>(scores, P * kPage, correction, keys[i] + int64_t{kPage} * h.D, slots, int(width), so_far.out);
  }
}

// The `rest` < P + 1 pages that are left, together.
template <int P, int R, class T>
DIALO_INLINE void attend_rest(const AttentionHead& h, int row, int64_t page, int rest, Progress<R>& so_far) {
  if constexpr (P > 0) {
    if (rest == P) return attend_pages<R, P, T>(h, row, page, so_far);
    attend_rest<P - 1, R, T>(h, row, page, rest, so_far);
  }
}

// `damage` is 0, or NaN when a row holds what is not finite: neither the clamped pages nor exp would show it.
template <int R, class T>
DIALO_INLINE void attend_rows(const AttentionHead& h, int row, float damage) {
  const int64_t width = head_width(h.D);
  Progress<R> so_far;
  so_far.q = h.scratch;
  so_far.out = so_far.q + R * width;
  so_far.scores = so_far.out + R * width;
  for (int r = 0; r < R; ++r) {
    for (int d = 0; d < h.D; ++d) so_far.q[r * width + d] = h.q[(row + r) * h.ld + d] * h.scale;
    for (int d = 0; d < width; ++d) so_far.out[r * width + d] = 0.0f;
    so_far.maximum[r] = -3.4e38f;
    so_far.total[r] = damage;
  }
  constexpr int P = R == 1 ? kAttentionPages : 1;  // one row alone has too few sums to hide their latency in one page
  const int64_t pages = (h.first_position + row + R - 1) / kPage + 1;
  int64_t page = 0;
  for (; page + P <= pages; page += P) attend_pages<R, P, T>(h, row, page, so_far);
  attend_rest<P - 1, R, T>(h, row, page, int(pages - page), so_far);
  for (int r = 0; r < R; ++r) {
    for (int d = 0; d < h.D; ++d) h.out[(row + r) * h.ldo + d] = so_far.out[r * width + d] / so_far.total[r];
  }
}

// The rows from `row` on, as many at a time as there are registers for, then half as many, …
template <int R, class T>
DIALO_INLINE void attend_from(const AttentionHead& h, int row, float damage) {
  for (; row + R <= h.rows; row += R) attend_rows<R, T>(h, row, damage);
  if constexpr (R > 1) attend_from<R / 2, T>(h, row, damage);
}

template <class T>
DIALO_INLINE void attend(const AttentionHead& h) {
  Vec damage = vset1(0.0f);
  for (int row = 0; row < h.rows; ++row) damage = vadd(damage, store_row<T>(h, row));
  attend_from<kAttentionRows, T>(h, 0, vsum(damage));
}

static void attention_f32(const AttentionHead& h) { attend<float>(h); }
static void attention_f16(const AttentionHead& h) { attend<uint16_t>(h); }
