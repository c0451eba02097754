#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <unordered_set>

#include "base/error.h"
#include "kernels/kernels.h"

namespace dialo {
namespace {

// Rows whose logits are held at once while a text is read through: 128 rows of GPT-2's vocabulary are 26 MB.
constexpr int64_t kReadRows = 128;

}  // namespace

std::vector<int32_t> Sequence::tokens() const {
  const std::lock_guard guard(engine_->lock_);
  return tokens_;
}

int64_t Sequence::length() const {
  const std::lock_guard guard(engine_->lock_);
  return int64_t(tokens_.size());
}

void Sequence::check_length(int64_t length) const {
  if (length >= 0 && length <= int64_t(tokens_.size())) return;
  throw std::invalid_argument("length must be from 0 to the sequence's " + std::to_string(tokens_.size()) +
                              " tokens, but is " + std::to_string(length) + ".");
}

std::shared_ptr<Sequence> Sequence::fork(int64_t length) const {
  const std::lock_guard guard(engine_->lock_);
  check_length(length);
  auto twin = std::make_shared<Sequence>(engine_, cache_->fork(length));
  twin->tokens_.assign(tokens_.begin(), tokens_.begin() + length);
  return twin;
}

void Sequence::truncate(int64_t length) {
  const std::lock_guard guard(engine_->lock_);
  check_length(length);
  cache_->truncate(length);
  tokens_.resize(length);
}

Engine::Engine(std::unique_ptr<Backend> backend, std::shared_ptr<ThreadPool> pool)
    : pool_(std::move(pool)), backend_(std::move(backend)), samplers_(pool_->size(), Sampler(kernels())) {}

std::shared_ptr<Sequence> Engine::sequence() {
  return std::make_shared<Sequence>(shared_from_this(), backend_->new_cache());
}

void Engine::check_tokens(std::span<const int32_t> tokens, int64_t first_position) const {
  if (tokens.empty()) throw std::invalid_argument("At least one token is needed, but none was given.");
  for (const int32_t id : tokens) {
    if (id >= 0 && id < config().vocab_size) continue;
    throw std::invalid_argument("Token ids must be from 0 to " + std::to_string(config().vocab_size - 1) +
                                " (the vocabulary), but one is " + std::to_string(id) + ".");
  }
  const int64_t length = first_position + int64_t(tokens.size());
  if (length > config().n_positions) {
    throw CapacityError("The model has " + std::to_string(config().n_positions) + " positions, but the sequence would have " +
                        std::to_string(length) + " tokens; shorten it.");
  }
}

void Engine::check(std::span<const Work> work) const {
  std::unordered_set<const Sequence*> seen;
  for (const Work& w : work) {
    if (!w.sequence || w.sequence->engine_.get() != this) {
      throw std::invalid_argument("Each work needs a sequence of this engine.");
    }
    if (!seen.insert(w.sequence.get()).second) {
      throw std::invalid_argument("A sequence may occur only once in a step, but one occurs twice.");
    }
    check_tokens(w.tokens, int64_t(w.sequence->tokens_.size()));
  }
}

std::vector<int32_t> Engine::step(std::span<const Work> work) {
  const std::lock_guard guard(lock_);
  check(work);
  Batch batch;
  std::vector<std::size_t> asking;  // index of the work behind each wanted row
  int row = 0;
  for (std::size_t i = 0; i < work.size(); ++i) {
    Sequence& s = *work[i].sequence;
    batch.segments.push_back({s.cache_.get(), work[i].tokens.data(), int(work[i].tokens.size()), int64_t(s.tokens_.size())});
    row += int(work[i].tokens.size());
    if (work[i].sampling) {
      batch.wanted.push_back(row - 1);
      asking.push_back(i);
    }
  }
  const int64_t stride = backend_->logits_stride();
  logits_.resize(std::max<std::size_t>(logits_.size(), stride * asking.size()));
  backend_->forward(batch, logits_.data());
  for (const Work& w : work) w.sequence->tokens_.insert(w.sequence->tokens_.end(), w.tokens.begin(), w.tokens.end());

  std::vector<int32_t> chosen(work.size(), -1);
  std::vector<std::exception_ptr> failed(asking.size());
  pool_->parallel_for(int(asking.size()), [&](int i, int thread) {
    try {
      const Work& w = work[asking[i]];
      const std::span<float> logits(logits_.data() + i * stride, config().vocab_size);
      chosen[asking[i]] = samplers_[thread].choose(*w.sampling, w.sequence->tokens_, logits);
    } catch (...) {
      failed[i] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : failed) {
    if (!error) continue;
    for (const Work& w : work) w.sequence->tokens_.resize(w.sequence->tokens_.size() - w.tokens.size());
    std::rethrow_exception(error);
  }
  return chosen;
}

// use(first, rows, logits) for consecutive pieces of the text; the lock is free between two pieces.
template <class Use>
void Engine::read_through(std::span<const int32_t> tokens, const Use& use) {
  check_tokens(tokens, 0);
  const std::unique_ptr<Cache> cache = backend_->new_cache();
  const int64_t stride = backend_->logits_stride();
  for (int64_t first = 0; first < int64_t(tokens.size()); first += kReadRows) {
    const int rows = int(std::min<int64_t>(kReadRows, int64_t(tokens.size()) - first));
    const std::lock_guard guard(lock_);
    Batch batch{{{cache.get(), tokens.data() + first, rows, first}}, {}};
    for (int r = 0; r < rows; ++r) batch.wanted.push_back(r);
    logits_.resize(std::max<std::size_t>(logits_.size(), stride * rows));
    backend_->forward(batch, logits_.data());
    use(first, rows, stride);
  }
}

void Engine::logits(std::span<const int32_t> tokens, float* out) {
  const int64_t V = config().vocab_size;
  read_through(tokens, [&](int64_t first, int rows, int64_t stride) {
    for (int r = 0; r < rows; ++r) std::memcpy(out + (first + r) * V, logits_.data() + r * stride, V * sizeof(float));
  });
}

void Engine::logprobs(std::span<const int32_t> tokens, float* out) {
  const int64_t V = config().vocab_size, T = int64_t(tokens.size());
  read_through(tokens, [&](int64_t first, int rows, int64_t stride) {
    pool_->parallel_for(rows, [&](int r, int) {
      if (first + r + 1 >= T) return;
      const float* x = logits_.data() + r * stride;
      const float highest = *std::max_element(x, x + V);
      const double total = std::log(double(kernels().exp_sum(x, int(V), highest, nullptr)));
      out[first + r] = float(double(x[tokens[first + r + 1]]) - highest - total);
    });
  });
}

}  // namespace dialo
