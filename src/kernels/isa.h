// What does a family of processors add to the ladder? A rung is data and one file; a family lists its rungs, its features
// and how this CPU is asked for them.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernels.h"

// The files of a family compile to nothing on the processors of another one.
#if defined(__x86_64__)
#define DIALO_X86 1
#endif
#if defined(__aarch64__) && !defined(__AARCH64EB__)
#define DIALO_ARM64 1
#endif

// Kernels are built from small functions that must vanish into their callers: a call would spill every register.
#define DIALO_INLINE static inline __attribute__((always_inline))

namespace dialo {

// Replaces what an instruction set does better than the rungs below it.
using Overlay = void(Kernels&);

namespace scalar {
Overlay overlay;
}

// A bit of a CPU's features, as its family numbers them, and Linux's name for it.
struct FeatureName {
  uint32_t bit;
  const char* name;
};

struct Family {
  std::span<const Rung> rungs;  // above `scalar`, in climbing order
  std::span<const FeatureName> features;
  uint32_t (*detect)();  // the bits that this CPU has and its operating system lets it use
};

namespace x86 {
Family family();
}
namespace arm {
Family family();
}

}  // namespace dialo
