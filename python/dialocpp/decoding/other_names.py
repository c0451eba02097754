"""What is to be done instead, where somebody passes a generation argument under another system's name?

Those of OpenAI, llama.cpp, vLLM, Ollama, text-generation-webui and transformers; for arguments of loading, see
`checkpoint/foreign_arguments.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX = "use max_new_tokens"
_LENGTH = "use max_new_tokens, which does not count the prompt"
_STOP = "use stop_strings"
_ENDS = "use eos_token_id, which takes a list of token ids"
_NO_PADDING = "leave it out: prompts of different lengths run together without padding"
_ALWAYS_CACHED = "leave it out: keys and values are always cached"
_OUTPUT = "leave it out: generate gives a list of results with text, token ids, finish reason, usage and timings"
_FUNCTION = "use logits_processor, a function of (token ids so far, logits)"
_CONSTRAINT = "use logits_processor, a function that sets the logits of what may not follow to -inf"
_STREAM = "use ChatSession.stream, which gives a reply piece by piece"
_NO_ASSISTANT = "leave it out: there is no speculative decoding here"
_NO_ENCODER = "leave it out: a GPT-2 has no encoder"
_NO_CONTRAST = "leave it out: there is one pass of one model here; for a reply that others would not give, rank by MMI"
_CUTOFF = "use top_p, typical_p, min_p or eta_cutoff, the cut-offs that there are"
_MODEL = "load the model with Model.from_pretrained, and call its generate"

# Argument -> what to do instead.
INSTEAD = {
    # How long
    "max_tokens": _MAX,
    "max_completion_tokens": _MAX,
    "max_output_tokens": _MAX,
    "max_gen_len": _MAX,
    "n_predict": _MAX,
    "num_predict": _MAX,
    "max_length": _LENGTH,
    "max_seq_len": _LENGTH,
    "min_length": "use min_new_tokens, which does not count the prompt",
    "min_tokens": "use min_new_tokens",
    "timeout": "use max_time, in seconds",
    "t_max_predict_ms": "use max_time, in seconds",
    # How many
    "n": "use num_return_sequences; in a session, num_candidates",
    "best_of": "use num_candidates of a ChatSession, which gives the best of several replies",
    "num_samples": "use num_return_sequences",
    "beam_width": "use num_beams",
    "beam_size": "use num_beams",
    "use_beam_search": "use num_beams",
    "n_probs": "use top_logprobs",
    "logprobs": "use top_logprobs=0 for those of the chosen tokens, or the number of others to tell beside each",
    "prompt_logprobs": "use Model.logprobs, which gives log P of each token of a text",
    # What ends it
    "stop": _STOP,
    "stop_sequences": _STOP,
    "stop_words": _STOP,
    "stopping_strings": _STOP,
    "stop_token_ids": _ENDS,
    "eos_token_ids": _ENDS,
    "ignore_eos": "use eos_token_id=[], with which no token ends a reply",
    "stopping_criteria": "use stop_strings, eos_token_id or max_time; or stop reading ChatSession.stream",
    # How it is drawn
    "temp": "use temperature",
    "sample": "use do_sample",
    "greedy": "use do_sample=False",
    "random_seed": "use seed",
    "generator": "use seed",
    "typical": "use typical_p",
    "tfs_z": _CUTOFF,
    "top_a": _CUTOFF,
    "top_h": _CUTOFF,
    "top_n_sigma": _CUTOFF,
    "mirostat": _CUTOFF,
    "xtc_probability": _CUTOFF,
    "dynatemp_range": "use temperature, which is the same at each token",
    "penalty_alpha": _NO_CONTRAST,
    "guidance_scale": _NO_CONTRAST,
    "dola_layers": _NO_CONTRAST,
    # What becomes less probable
    "repeat_penalty": "use repetition_penalty",
    "rep_pen": "use repetition_penalty",
    "repeat_last_n": "leave it out: a penalty looks at the whole prompt and reply, in a session at the whole reply",
    "no_repeat_ngram": "use no_repeat_ngram_size",
    "dry_multiplier": "use no_repeat_ngram_size, which forbids repetition, or repetition_penalty",
    "bad_words_list": "use bad_words for texts, or bad_words_ids for token ids",
    "banned_strings": "use bad_words",
    "token_bias": "use logit_bias, a dict of token ids and biases",
    "force_words_ids": _CONSTRAINT,
    "constraints": _CONSTRAINT,
    "grammar": _CONSTRAINT,
    "guided_json": _CONSTRAINT,
    "response_format": _CONSTRAINT,
    "allowed_token_ids": _CONSTRAINT,
    "prefix_allowed_tokens_fn": _CONSTRAINT,
    "forced_bos_token_id": "leave it out, and give the token at the end of the prompt",
    "logits_processors": _FUNCTION,
    "logits_warper": _FUNCTION,
    # What goes in
    "input_ids": "give the prompts as the first argument: texts or lists of token ids",
    "inputs": "give the prompts as the first argument: texts or lists of token ids",
    "prompt": "give the prompts as the first argument: texts or lists of token ids",
    "inputs_embeds": "give token ids: a prompt of vectors cannot be read",
    "truncate_prompt_tokens": "use truncation='left', or give fewer tokens",
    "messages": "use ChatSession, which keeps the turns and lays them out",
    "past_key_values": "use ChatSession, which keeps keys and values between turns",
    "attention_mask": _NO_PADDING,
    "token_type_ids": "leave it out: the model has no token types",
    "position_ids": "leave it out: positions count from the start of the prompt",
    "pad_token_id": _NO_PADDING,
    "padding": _NO_PADDING,
    "bos_token_id": "leave it out: a prompt is never empty, so nothing is put before it",
    "add_special_tokens": "leave it out, and write special tokens into the prompt",
    "skip_special_tokens": "leave it out: a result's text is without them, its token_ids tell those inside the reply",
    "encoder_no_repeat_ngram_size": _NO_ENCODER,
    "encoder_repetition_penalty": _NO_ENCODER,
    "decoder_start_token_id": _NO_ENCODER,
    # How it runs
    "use_cache": _ALWAYS_CACHED,
    "cache_prompt": _ALWAYS_CACHED,
    "cache_implementation": _ALWAYS_CACHED,
    "assistant_model": _NO_ASSISTANT,
    "prompt_lookup_num_tokens": _NO_ASSISTANT,
    "synced_gpus": "leave it out: the model runs on this machine's CPU",
    "device": "leave it out here; Model.from_pretrained takes it",
    "model": _MODEL,
    "tokenizer": "leave it out here; Model.from_pretrained takes it",
    # What comes out
    "stream": _STREAM,
    "streamer": _STREAM,
    "echo": "put the prompt before the result's text: a result holds what follows it",
    "return_full_text": "put the prompt before the result's text: a result holds what follows it",
    "return_dict_in_generate": _OUTPUT,
    "return_tensors": _OUTPUT,
    "output_scores": "use top_logprobs",
    "output_logits": "use Model.logits, or logits_processor to see them as a reply is written",
    "output_attentions": "leave it out: attention is not kept",
    "output_hidden_states": "leave it out: hidden states are not kept",
    "renormalize_logits": "leave it out: what is drawn from is always normalised",
    "remove_invalid_values": "leave it out: logits that are no numbers are an error",
}


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str = "a generation argument") -> None:
    """TypeError for the first name that is not `known`, with what to do instead."""
    known = frozenset(known)
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), sorted(known), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "GenerationConfig's help lists those there are"
        raise TypeError(f"expected {what}, found {str(name)[:80]!r}; {INSTEAD.get(name, hint)}")
