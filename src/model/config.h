// Which GPT-2 is it? The numbers of Hugging Face's config.json, checked.
#pragma once

#include <string>

namespace dialo {

struct Config {
  int vocab_size;       // V
  int n_positions;      // T
  int n_embd;           // C
  int n_layer;          // L
  int n_head;           // H
  int n_inner;          // outputs of mlp.c_fc
  std::string activation_function;
  float layer_norm_epsilon;
  bool scale_attn_weights;
  bool scale_attn_by_inverse_layer_idx;
  bool tie_word_embeddings;
  int num_labels = 0;  // 0: a language model; else a classifier, whose head `score` has so many outputs

  int head_size() const { return n_embd / n_head; }  // D
  // Logits of a row: one for each token of the vocabulary, or one for each label.
  int outputs() const { return num_labels > 0 ? num_labels : vocab_size; }

  // std::invalid_argument when the numbers do not fit together or would not fit into memory.
  void validate() const;
};

}  // namespace dialo
