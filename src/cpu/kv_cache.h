// Where do keys and values live? In pages of kPage positions, shared between sequences until one of them writes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/buffer.h"
#include "base/fork_safe_mutex.h"
#include "kernels/kernels.h"
#include "model/arrays.h"
#include "model/backend.h"

namespace dialo {

// One way to store keys and values.
struct KvFormat {
  ElementType type;
  int64_t (*head_page_bytes)(int D);  // of one head
  void (*Kernels::*attention)(const AttentionHead&);
};

// std::invalid_argument when there is none of that type. A new one is a kernel and a line of the table.
const KvFormat& kv_format(ElementType type);

// Owns all pages of one model: a page holds kPage positions of every layer and head. Safe from many threads.
class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  PagePool(int64_t page_bytes, int64_t limit_bytes) : page_bytes_(page_bytes), limit_bytes_(limit_bytes) {}

  using Page = std::shared_ptr<std::byte>;
  // A page of zeros or of old, finite numbers. CapacityError when the limit is reached.
  Page take();
  int64_t page_bytes() const { return page_bytes_; }
  int64_t bytes_in_use() const;

 private:
  void give_back(Buffer<std::byte> memory);

  const int64_t page_bytes_, limit_bytes_;
  mutable ForkSafeMutex lock_{LockRank::kPagePool};
  std::vector<Buffer<std::byte>> free_;
  int64_t pages_in_use_ = 0;
};

class PagedCache final : public Cache {
 public:
  explicit PagedCache(std::shared_ptr<PagePool> pool) : pool_(std::move(pool)) {}

  std::unique_ptr<Cache> fork(int64_t length) const override;
  void truncate(int64_t length) override;

  // Makes positions [first, first + count) writable: new pages, and copies of pages that are shared.
  void reserve(int64_t first, int64_t count);
  // The pages' memory, in order; valid until the next call that changes this cache.
  void* const* pages() const { return addresses_.data(); }

 private:
  std::shared_ptr<PagePool> pool_;
  std::vector<PagePool::Page> pages_;
  std::vector<void*> addresses_;
};

}  // namespace dialo
