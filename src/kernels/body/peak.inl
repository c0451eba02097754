// How fast could these instructions be alone? Chains of steps that wait for nothing but themselves.
// A Step has the type of one link, how many products of two numbers it makes, and `advance`, whose empty asm keeps it.

constexpr int kChains = 12;  // more than latency × throughput of any dot-product instruction

template <class Step, int... I>
DIALO_INLINE int64_t run_chains(int rounds, Indices<I...>) {
  typename Step::Link chain[kChains] = {};
  for (int round = 0; round < rounds; ++round) (Step::advance(chain[I]), ...);
  return int64_t{Step::kProducts} * kChains * rounds;
}
