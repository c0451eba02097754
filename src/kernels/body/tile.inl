// How does a register tile stay in registers? Its elements are named by constants, never by a loop counter: GCC keeps
// an array of vectors in memory when even one loop over it is not unrolled early enough, and a loop that is unrolled
// by pragma is sometimes too late. A pack of indices is expanded before anything else looks at the code.

template <int... I>
using Indices = std::integer_sequence<int, I...>;
template <int N>
using UpTo = std::make_integer_sequence<int, N>;

// Weights that the next blocks will need, fetched while the products of these blocks run: alone, products and memory
// would take turns, since a latency is longer than what the CPU looks ahead. The passes over one group of blocks share
// the work, each fetches its part: `stride` elements of each next block in every k-step, from `offset` on.
struct Ahead {
  int64_t offset;
  int stride;
};

// U steps' share of the next weights of each of the blocks.
template <int U, class T, int... Blocks>
DIALO_INLINE void prefetch_weights(const T* next, int stride, int64_t block_size, Indices<Blocks...>) {
  for (int u = 0; u < U; ++u) (__builtin_prefetch(next + u * stride + Blocks * block_size, 0, 2), ...);
}
