// How does dot_i8.inl meet an instruction that takes one row's four bytes from a lane of a register? The ISA gives
// acts_load and dot4<Lane>(sum, weights, rows).

using Sum = Acc;
constexpr int kGroupsAtOnce = 1;

template <int Lane>
struct Act {
  uint8x16_t rows;
};

template <int Row, int R>
DIALO_INLINE Act<Row % 4> act_of(const Rows<R>& rows) {
  return {rows.q[Row / 4]};
}
template <int U>
DIALO_INLINE Weight weights_load(const int8_t* w) {
  return weight_load(w);
}
template <int Lane>
DIALO_INLINE int32x4_t dot4(int32x4_t sum, int8x16_t w, uint8x16_t rows);
template <int Lane>
DIALO_INLINE Acc dot(Acc s, Act<Lane> act, Weight w) {
  return {dot4<Lane>(s.a, w.a, act.rows), dot4<Lane>(s.b, w.b, act.rows), dot4<Lane>(s.c, w.c, act.rows),
          dot4<Lane>(s.d, w.d, act.rows)};
}
DIALO_INLINE Acc acc_of(Acc sum) { return sum; }
