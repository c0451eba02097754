#include "engine/engine.h"

#include <algorithm>
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

constexpr int32_t kNoToken = -1;

// One row of logits and what it is for: the log-probability of a given token, or the answer to its work.
struct Question {
  std::size_t work;
  int32_t target;
};

void answer(Sampler& sampler, const Work& work, std::span<const int32_t> tokens, std::span<float> logits,
            Outcome& out) {
  if (work.logits) {
    work.sampling ? sampler.process(*work.sampling, tokens, logits, work.bans) : check_finite(logits);
    out.logits.assign(logits.begin(), logits.end());
    return;
  }
  if (work.n_best > 0) {
    out.best = sampler.n_best(*work.sampling, tokens, logits, work.n_best, work.bans);
    return;
  }
  if (work.top_logprobs < 0) {
    out.token = sampler.choose(*work.sampling, tokens, logits, work.bans);
    return;
  }
  // The rules change the logits in place, and the log-probabilities are those before the rules.
  const std::vector<float> own(logits.begin(), logits.end());
  sampler.top_logprobs(own, work.top_logprobs, out.best);
  out.token = sampler.choose(*work.sampling, tokens, logits, work.bans);
  out.logprob = sampler.logprob(own, out.token);
}

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
  throw std::invalid_argument("expected a length from 0 to the sequence's " + std::to_string(tokens_.size()) +
                              " tokens, found " + std::to_string(length));
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
  if (tokens.empty()) throw std::invalid_argument("expected at least one token, found none");
  for (const int32_t id : tokens) {
    if (id >= 0 && id < config().vocab_size) continue;
    throw std::invalid_argument("expected token ids from 0 to " + std::to_string(config().vocab_size - 1) +
                                " (the vocabulary), found " + std::to_string(id));
  }
  const int64_t length = first_position + int64_t(tokens.size());
  if (length > config().n_positions) {
    throw CapacityError("expected a sequence of at most " + std::to_string(config().n_positions) +
                        " tokens, the model's positions, found " + std::to_string(length) + "; shorten it");
  }
}

void Engine::check_writes() const {
  if (config().num_labels == 0) return;
  throw std::invalid_argument("expected a model that writes, found one that ranks texts (num_labels = " +
                              std::to_string(config().num_labels) + "); read its labels by logits()");
}

void Engine::check(std::span<const Work> work) const {
  std::unordered_set<const Sequence*> seen;
  for (const Work& w : work) {
    if (!w.sequence || w.sequence->engine_.get() != this) {
      throw std::invalid_argument("expected each work to have a sequence of this engine, found another or none");
    }
    if (!seen.insert(w.sequence.get()).second) {
      throw std::invalid_argument("expected each sequence once in a step, found one twice");
    }
    if (w.sampling || w.scored > 0) check_writes();
    check_tokens(w.tokens, int64_t(w.sequence->tokens_.size()));
    if (w.scored < 0 || w.scored >= int(w.tokens.size())) {
      throw std::invalid_argument("expected scored from 0 to " + std::to_string(w.tokens.size() - 1) +
                                  " (a token is scored by the one before it), found " + std::to_string(w.scored));
    }
    if (!w.sampling && (w.n_best > 0 || w.top_logprobs >= 0)) {
      throw std::invalid_argument("expected a sampling beside n_best or top_logprobs, found none");
    }
  }
}

std::vector<Outcome> Engine::step(std::span<const Work> work) {
  const std::lock_guard guard(lock_);
  check(work);
  Batch batch;
  std::vector<Question> questions;
  int row = 0;
  for (std::size_t i = 0; i < work.size(); ++i) {
    const Work& w = work[i];
    const int rows = int(w.tokens.size());
    batch.segments.push_back({w.sequence->cache_.get(), w.tokens.data(), rows, int64_t(w.sequence->tokens_.size())});
    // A token is scored by the row before it.
    for (int r = rows - 1 - w.scored; r < rows - 1; ++r) {
      batch.wanted.push_back(row + r);
      questions.push_back({i, w.tokens[r + 1]});
    }
    row += rows;
    if (w.sampling || w.logits) {
      batch.wanted.push_back(row - 1);
      questions.push_back({i, kNoToken});
    }
  }
  const int64_t stride = backend_->logits_stride();
  logits_.resize(std::max<std::size_t>(logits_.size(), stride * questions.size()));
  backend_->forward(batch, logits_.data());
  for (const Work& w : work) w.sequence->tokens_.insert(w.sequence->tokens_.end(), w.tokens.begin(), w.tokens.end());

  std::vector<float> scores(questions.size());
  std::vector<Outcome> outcomes(work.size());
  std::vector<std::exception_ptr> failed(questions.size());
  pool_->parallel_for(int(questions.size()), [&](int q, int thread) {
    try {
      const auto [index, target] = questions[q];
      const std::span<float> logits(logits_.data() + q * stride, config().outputs());
      if (target != kNoToken) {
        scores[q] = samplers_[thread].logprob(logits, target);
        check_finite({&scores[q], 1});
      } else {
        answer(samplers_[thread], work[index], work[index].sequence->tokens_, logits, outcomes[index]);
      }
    } catch (...) {
      failed[q] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : failed) {
    if (!error) continue;
    for (const Work& w : work) w.sequence->tokens_.resize(w.sequence->tokens_.size() - w.tokens.size());
    std::rethrow_exception(error);
  }
  for (std::size_t q = 0; q < questions.size(); ++q) {
    if (questions[q].target != kNoToken) outcomes[questions[q].work].logprobs.push_back(scores[q]);
  }
  return outcomes;
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
  const int64_t N = config().outputs();
  read_through(tokens, [&](int64_t first, int rows, int64_t stride) {
    for (int r = 0; r < rows; ++r) std::memcpy(out + (first + r) * N, logits_.data() + r * stride, N * sizeof(float));
  });
}

void Engine::logprobs(std::span<const int32_t> tokens, float* out) {
  check_writes();
  const int64_t V = config().vocab_size, T = int64_t(tokens.size());
  read_through(tokens, [&](int64_t first, int rows, int64_t stride) {
    pool_->parallel_for(rows, [&](int r, int thread) {
      if (first + r + 1 >= T) return;
      const std::span<const float> row(logits_.data() + r * stride, std::size_t(V));
      out[first + r] = samplers_[thread].logprob(row, tokens[first + r + 1]);
    });
  });
  if (T > 1) check_finite({out, std::size_t(T - 1)});
}

}  // namespace dialo
