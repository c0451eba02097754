#include "cpu/kv_cache.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "base/error.h"

namespace dialo {
namespace {

int64_t pages_for(int64_t positions) { return (positions + kPage - 1) / kPage; }

// Enough for the sessions that come and go; beyond it, memory goes back to the system.
constexpr std::size_t kKeepFree = 16;

template <int kBytes>
int64_t float_page_bytes(int D) {
  return kBytes * head_page_elements(D);
}

constexpr KvFormat kFormats[] = {
    {ElementType::kF32, float_page_bytes<4>, &Kernels::attention_f32},
    {ElementType::kF16, float_page_bytes<2>, &Kernels::attention_f16},
};

}  // namespace

const KvFormat& kv_format(ElementType type) {
  std::string known;
  for (const KvFormat& format : kFormats) {
    if (format.type == type) return format;
    known += (known.empty() ? "" : " or ") + std::string(name_of(format.type));
  }
  throw std::invalid_argument("expected keys and values as " + known + ", found " + name_of(type));
}

PagePool::Page PagePool::take() {
  Buffer<std::byte> memory;
  {
    const std::lock_guard guard(lock_);
    if ((pages_in_use_ + 1) * page_bytes_ > limit_bytes_) {
      throw CapacityError("expected a free page in the KV cache, found all " +
                          std::to_string(limit_bytes_ >> 20) +
                          " MiB in use; drop sessions that are no longer needed, or give the model a larger "
                          "kv_cache_bytes");
    }
    ++pages_in_use_;
    if (!free_.empty()) {
      memory = std::move(free_.back());
      free_.pop_back();
    }
  }
  try {
    if (!memory.data()) {
      memory.grow(page_bytes_);
      std::memset(memory.data(), 0, page_bytes_);
    }
    std::byte* data = memory.data();
    // The page's memory lives in the deleter, which hands it back to the pool.
    return Page(data, [pool = shared_from_this(), kept = std::make_shared<Buffer<std::byte>>(std::move(memory))](
                          std::byte*) { pool->give_back(std::move(*kept)); });
  } catch (const std::bad_alloc&) {
    const std::lock_guard guard(lock_);
    --pages_in_use_;
    throw CapacityError("expected memory for the KV cache, found none left in the system; drop sessions that are no longer needed");
  }
}

void PagePool::give_back(Buffer<std::byte> memory) {
  const std::lock_guard guard(lock_);
  --pages_in_use_;
  if (free_.size() < kKeepFree) free_.push_back(std::move(memory));
}

int64_t PagePool::bytes_in_use() const {
  const std::lock_guard guard(lock_);
  return pages_in_use_ * page_bytes_;
}

std::unique_ptr<Cache> PagedCache::fork(int64_t length) const {
  auto twin = std::make_unique<PagedCache>(pool_);
  const int64_t count = pages_for(length);
  twin->pages_.assign(pages_.begin(), pages_.begin() + count);
  twin->addresses_.assign(addresses_.begin(), addresses_.begin() + count);
  return twin;
}

void PagedCache::truncate(int64_t length) {
  const std::size_t count = pages_for(length);
  if (count >= pages_.size()) return;
  pages_.resize(count);
  addresses_.resize(count);
}

void PagedCache::reserve(int64_t first, int64_t count) {
  if (count <= 0) return;
  for (int64_t index = first / kPage; index <= (first + count - 1) / kPage; ++index) {
    if (index < int64_t(pages_.size()) && pages_[index].use_count() == 1) continue;
    PagePool::Page page = pool_->take();
    if (index < int64_t(pages_.size())) {
      std::memcpy(page.get(), pages_[index].get(), pool_->page_bytes());
      pages_[index] = std::move(page);
      addresses_[index] = pages_[index].get();
    } else {
      addresses_.reserve(pages_.size() + 1);
      pages_.push_back(std::move(page));
      addresses_.push_back(pages_.back().get());
    }
  }
}

}  // namespace dialo
