// What happens to one row between two products: norm, activation, exp, quantisation.

// n < kLanes values; the other lanes are 0.
DIALO_INLINE Vec vload_n(const float* p, int n) {
  float lanes[kLanes] = {};
  for (int l = 0; l < n; ++l) lanes[l] = p[l];
  return vload(lanes);
}
DIALO_INLINE void vstore_n(float* p, Vec a, int n) {
  float lanes[kLanes];
  vstore(lanes, a);
  for (int l = 0; l < n; ++l) p[l] = lanes[l];
}

// Cephes' expf: 2^n · a polynomial of degree 5 on [−ln2/2, ln2/2]; 0 below the smallest normal number.
DIALO_INLINE Vec vexp(Vec x) {
  const Vec low = vset1(-87.3365478515625f);
  const Vec c = vmin(vmax(x, low), vset1(88.3762588501f));
  const VecI n = vround(vmul(c, vset1(1.44269504088896341f)));
  const Vec nf = vfloat(n);
  // ln 2 in two parts, so that the first product is exact
  const Vec r = vfma(nf, vset1(2.12194440e-4f), vfma(nf, vset1(-0.693359375f), c));
  Vec p = vset1(1.9875691500e-4f);
  p = vfma(p, r, vset1(1.3981999507e-3f));
  p = vfma(p, r, vset1(8.3334519073e-3f));
  p = vfma(p, r, vset1(4.1665795894e-2f));
  p = vfma(p, r, vset1(1.6666665459e-1f));
  p = vfma(p, r, vset1(5.0000001201e-1f));
  const Vec y = vadd(vfma(p, vmul(r, r), r), vset1(1.0f));
  return vselect_lt(x, low, vset1(0.0f), vscale2(y, n));
}

// 1 / (1 + exp(−x))
DIALO_INLINE Vec vsigmoid(Vec x) {
  const Vec one = vset1(1.0f);
  return vdiv(one, vadd(one, vexp(vsub(vset1(0.0f), x))));
}

// erf by Abramowitz & Stegun 7.1.26, |error| ≤ 1.5e-7.
DIALO_INLINE Vec verf(Vec x) {
  const Vec a = vabs(x), one = vset1(1.0f), zero = vset1(0.0f);
  const Vec t = vdiv(one, vfma(vset1(0.3275911f), a, one));
  Vec p = vset1(1.061405429f);
  p = vfma(p, t, vset1(-1.453152027f));
  p = vfma(p, t, vset1(1.421413741f));
  p = vfma(p, t, vset1(-0.284496736f));
  p = vfma(p, t, vset1(0.254829592f));
  const Vec y = vsub(one, vmul(vmul(p, t), vexp(vsub(zero, vmul(a, a)))));
  return vselect_lt(x, zero, vsub(zero, y), y);
}

template <Activation kind>
DIALO_INLINE Vec vactivate(Vec x) {
  if constexpr (kind == Activation::kGeluTanh) {  // x/2 · (1 + tanh u) = x · sigmoid(2u)
    const Vec cube = vmul(vmul(x, x), x);
    const Vec u2 = vmul(vset1(1.59576912160573f), vfma(vset1(0.044715f), cube, x));
    return vmul(x, vsigmoid(u2));
  } else if constexpr (kind == Activation::kGeluErf) {
    const Vec half = vmul(x, vset1(0.5f));
    return vfma(half, verf(vmul(x, vset1(0.70710678118655f))), half);
  } else if constexpr (kind == Activation::kQuickGelu) {
    return vmul(x, vsigmoid(vmul(x, vset1(1.702f))));
  } else if constexpr (kind == Activation::kSilu) {
    return vmul(x, vsigmoid(x));
  } else if constexpr (kind == Activation::kTanh) {  // 2 · sigmoid(2x) − 1: near 0 exact to a few 2⁻²⁴, not to a share of x
    return vfma(vset1(2.0f), vsigmoid(vmul(x, vset1(2.0f))), vset1(-1.0f));
  } else {
    const Vec zero = vset1(0.0f);
    return vselect_lt(x, zero, vfma(x, zero, zero), x);  // vmax would make 0 of a NaN; 0 · x stays NaN for −∞
  }
}

template <Activation kind>
DIALO_INLINE void activate_as(const float* x, int n, float* out) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) vstore(out + i, vactivate<kind>(vload(x + i)));
  if (i < n) vstore_n(out + i, vactivate<kind>(vload_n(x + i, n - i)), n - i);
}

static void activate(Activation kind, const float* x, int n, float* out) {
  switch (kind) {
    case Activation::kGeluTanh: return activate_as<Activation::kGeluTanh>(x, n, out);
    case Activation::kGeluErf: return activate_as<Activation::kGeluErf>(x, n, out);
    case Activation::kQuickGelu: return activate_as<Activation::kQuickGelu>(x, n, out);
    case Activation::kRelu: return activate_as<Activation::kRelu>(x, n, out);
    case Activation::kSilu: return activate_as<Activation::kSilu>(x, n, out);
    case Activation::kTanh: return activate_as<Activation::kTanh>(x, n, out);
  }
}

static void layer_norm(const float* x, int n, const float* gain, const float* bias, float eps, float* out) {
  const int tail = n % kLanes, full = n - tail;
  const Vec zero = vset1(0.0f);
  Vec sum = zero;
  for (int i = 0; i < full; i += kLanes) sum = vadd(sum, vload(x + i));
  if (tail) sum = vadd(sum, vload_n(x + full, tail));
  const Vec mean = vset1(vsum(sum) / float(n));
  Vec squares = zero;
  for (int i = 0; i < full; i += kLanes) {
    const Vec d = vsub(vload(x + i), mean);
    squares = vfma(d, d, squares);
  }
  if (tail) {
    const Vec d = vfirst(tail, vsub(vload_n(x + full, tail), mean), zero);
    squares = vfma(d, d, squares);
  }
  const Vec inverse = vset1(1.0f / __builtin_sqrtf(vsum(squares) / float(n) + eps));
  for (int i = 0; i < full; i += kLanes) {
    vstore(out + i, vfma(vmul(vsub(vload(x + i), mean), inverse), vload(gain + i), vload(bias + i)));
  }
  if (tail) {
    const Vec y = vmul(vsub(vload_n(x + full, tail), mean), inverse);
    vstore_n(out + full, vfma(y, vload_n(gain + full, tail), vload_n(bias + full, tail)), tail);
  }
}

static float exp_sum(const float* x, int n, float shift, float* out) {
  const Vec s = vset1(shift);
  Vec sum = vset1(0.0f);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec e = vexp(vsub(vload(x + i), s));
    if (out) vstore(out + i, e);
    sum = vadd(sum, e);
  }
  if (i < n) {
    const Vec e = vfirst(n - i, vexp(vsub(vload_n(x + i, n - i), s)), vset1(0.0f));
    if (out) vstore_n(out + i, e, n - i);
    sum = vadd(sum, e);
  }
  return vsum(sum);
}

// The nearest integer, ties to even, for |x| < 2^22, as vround gives it.
DIALO_INLINE int32_t round1(float x) { return int32_t((x + 12582912.0f) - 12582912.0f); }

struct Range {
  float low, high;  // NaN when a value is not finite
};
// Of n values and 0.
DIALO_INLINE Range range_of(const float* x, int n) {
  const Vec zero = vset1(0.0f);
  Vec low = zero, high = zero, damage = zero;
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec v = vload(x + i);
    low = vmin(v, low);
    high = vmax(v, high);
    damage = vfma(v, zero, damage);
  }
  if (i < n) {
    const Vec v = vload_n(x + i, n - i);
    low = vmin(v, low);
    high = vmax(v, high);
    damage = vfma(v, zero, damage);
  }
  const float sum = vsum(damage);
  return {sum - vhighest(vsub(zero, low)), sum + vhighest(high)};
}

static void quantize_tile(const float* x, int64_t ldx, int rows, int K, uint8_t* out, float* scale, int32_t* zero) {
  for (int r = 0; r < rows; ++r, x += ldx) {
    const Range range = range_of(x, K);
    const float width = range.high - range.low;
    // Below this 255 / width would overflow: such a row is all zeros to every weight that it meets. No integer can
    // say NaN, so the scale of a row that is not finite does.
    const bool silent = !(width >= 1e-35f && width < __builtin_inff());
    const float inverse = silent ? 0.0f : 255.0f / width;
    scale[r] = silent ? width - width : width / 255.0f;
    zero[r] = silent ? 0 : round1(-range.low * inverse);
    for (int i = 0; i < K; i += kLanes) {
      const Vec v = i + kLanes <= K ? vload(x + i) : vload_n(x + i, K - i);
      uint8_t bytes[kLanes];
      vstore_bytes(bytes, vround(vmul(v, vset1(inverse))), zero[r]);
      const int groups = (K - i + kGroup - 1) / kGroup;  // left; the zeros after K fill the last one
      for (int g = 0; g < 4 && g < groups; ++g) {
        __builtin_memcpy(out + (int64_t(i / kGroup + g) * rows + r) * kGroup, bytes + g * kGroup, kGroup);
      }
    }
  }
}
