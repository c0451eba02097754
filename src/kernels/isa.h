// Which instruction sets are compiled in? One bit a CPU feature, one overlay a rung.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#define DIALO_X86 1
#endif
#if defined(__aarch64__) && !defined(__AARCH64EB__)
#define DIALO_ARM64 1
#endif

// Kernels are built from small functions that must vanish into their callers: a call would spill every register.
#define DIALO_INLINE static inline __attribute__((always_inline))

namespace dialo {

struct Kernels;

enum CpuFeature : uint32_t {
  kAvx2 = 1u << 0,
  kFma = 1u << 1,
  kF16c = 1u << 2,
  kAvxVnni = 1u << 3,
  kAvx512f = 1u << 4,
  kAvx512bw = 1u << 5,
  kAvx512dq = 1u << 6,
  kAvx512vl = 1u << 7,
  kAvx512Vnni = 1u << 8,
  kAsimd = 1u << 9,
  kAsimdDp = 1u << 10,
  kI8mm = 1u << 11,
};

uint32_t detect_arm();  // bits of CpuFeature

namespace scalar {
void overlay(Kernels&);
}
namespace avx2 {
void overlay(Kernels&);
}
namespace avxvnni {
void overlay(Kernels&);
}
namespace avx512vnni {
void overlay(Kernels&);
}
namespace neon {
void overlay(Kernels&);
}
namespace dotprod {
void overlay(Kernels&);
}
namespace i8mm {
void overlay(Kernels&);
}

}  // namespace dialo
