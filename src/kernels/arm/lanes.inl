// How does dot_i8.inl meet an instruction that takes one row's four bytes from a lane of a register? The ISA gives
// rows_for_dot<R>(a), R rows of one group, and dot4<Lane>(sum, weights, rows).

using Sum = Acc;
constexpr int kGroupsAtOnce = 2;  // half the loop's own instructions, and loads early enough for CPUs that run in order

template <int U>
struct Weights {
  Weight group[U];
};
template <int R, int U>
struct Acts {
  Rows<R> group[U];
};
template <int Lane, int U>
struct Act {
  uint8x16_t group[U];
};

template <int U>
DIALO_INLINE Weights<U> weights_load(const int8_t* w) {
  if constexpr (U == 1) return {{weight_load(w)}};
  else return {{weight_load(w), weight_load(w + kLanes * kGroup)}};
}
template <int R, int U>
DIALO_INLINE Acts<R, U> acts_load(const uint8_t* a, int64_t step) {
  if constexpr (U == 1) return {{rows_for_dot<R>(a)}};
  else return {{rows_for_dot<R>(a), rows_for_dot<R>(a + step)}};
}
template <int Row, int R, int U>
DIALO_INLINE Act<Row % 4, U> act_of(const Acts<R, U>& acts) {
  if constexpr (U == 1) return {{acts.group[0].q[Row / 4]}};
  else return {{acts.group[0].q[Row / 4], acts.group[1].q[Row / 4]}};
}
template <int Lane>
DIALO_INLINE Acc dot16(Acc s, Weight w, uint8x16_t rows) {
  return {dot4<Lane>(s.a, w.a, rows), dot4<Lane>(s.b, w.b, rows), dot4<Lane>(s.c, w.c, rows),
          dot4<Lane>(s.d, w.d, rows)};
}
template <int Lane, int U>
DIALO_INLINE Acc dot(Acc s, const Act<Lane, U>& act, const Weights<U>& w) {
  s = dot16<Lane>(s, w.group[0], act.group[0]);
  if constexpr (U == 2) s = dot16<Lane>(s, w.group[1], act.group[1]);
  return s;
}
DIALO_INLINE Acc acc_of(Acc sum) { return sum; }
