// Who owns a block of numbers? A Buffer: aligned for every vector register, grown and never shrunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace dialo {

inline constexpr std::size_t kAlignment = 64;  // one cache line; one AVX-512 register

constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t count) { grow(count); }

  // At least `count` elements. The content is lost when the buffer has to move: this is scratch memory.
  T* grow(std::size_t count) {
    if (count > count_) {
      data_.reset();
      count_ = 0;
      data_.reset(static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{kAlignment})));
      count_ = count;
    }
    return data_.get();
  }

  T* data() const { return data_.get(); }
  std::size_t size() const { return count_; }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t count_ = 0;
};

}  // namespace dialo
