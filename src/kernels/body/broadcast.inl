// How does dot_i8.inl meet an instruction that wants the same four bytes of activations in every lane, and takes one group
// of inputs at a time? The ISA gives Act, act_broadcast(bytes), weight_load(w), and dot(acc, act, weight) on Acc itself.

using Sum = Acc;
constexpr int kGroupsAtOnce = 1;

template <int R, int U>
DIALO_INLINE const uint8_t* acts_load(const uint8_t* a, int64_t) {
  return a;
}
template <int Row>
DIALO_INLINE Act act_of(const uint8_t* a) {
  return act_broadcast(a + Row * kGroup);
}
template <int U>
DIALO_INLINE auto weights_load(const int8_t* w) {
  return weight_load(w);
}
DIALO_INLINE Acc acc_of(Sum sum) { return sum; }
