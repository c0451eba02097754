// How does a register tile stay in registers? Its elements are named by constants, never by a loop counter: GCC keeps
// an array of vectors in memory when even one loop over it is not unrolled early enough, and a loop that is unrolled
// by pragma is sometimes too late. A pack of indices is expanded before anything else looks at the code.

template <int... I>
using Indices = std::integer_sequence<int, I...>;
template <int N>
using UpTo = std::make_integer_sequence<int, N>;
