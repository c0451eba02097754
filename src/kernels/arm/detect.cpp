// Which of the ladder's features does this ARM CPU have? The operating system knows: no instruction may ask it.
#include "kernels/isa.h"

#if defined(DIALO_ARM64)
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#elif defined(_WIN32)
#include <windows.h>
#endif

namespace dialo {

#if defined(__linux__)

// Bits of the kernel's <asm/hwcap.h>, which older headers do not name.
uint32_t detect_arm() {
  const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
  uint32_t features = 0;
  if (hwcap & (1ul << 1)) features |= kAsimd;
  if (hwcap & (1ul << 20)) features |= kAsimdDp;
  if (hwcap2 & (1ul << 13)) features |= kI8mm;
  return features;
}

#elif defined(__APPLE__)

static bool has(const char* name) {
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

uint32_t detect_arm() {
  uint32_t features = kAsimd;
  if (has("hw.optional.arm.FEAT_DotProd")) features |= kAsimdDp;
  if (has("hw.optional.arm.FEAT_I8MM")) features |= kI8mm;
  return features;
}

#elif defined(_WIN32)

// winnt.h: PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE, PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE; older headers lack the second.
uint32_t detect_arm() {
  uint32_t features = kAsimd;
  if (IsProcessorFeaturePresent(43)) features |= kAsimdDp;
  if (IsProcessorFeaturePresent(66)) features |= kI8mm;
  return features;
}

#else

uint32_t detect_arm() { return kAsimd; }  // every AArch64 has it; nobody says more here

#endif

}  // namespace dialo
#endif
