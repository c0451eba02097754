"""What is to be done instead, where somebody passes an argument of transformers' or llama.cpp's loading?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_DTYPE = "use dtype: 'float32', 'float16', 'int8' or 'auto'"
_INT8 = "use dtype='int8'"
_CPU = "leave it out: the model runs on this machine's CPU"
_HUB = "leave it out: what the cache lacks is downloaded, and HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN are obeyed"
_FILES = "leave it out: safetensors are read before torch files, whatever the folder holds of both"
_ALWAYS = "leave it out: it is always so"

# Argument -> what to do instead.
_INSTEAD = {
    "torch_dtype": _DTYPE,
    "compute_type": _DTYPE,
    "precision": _DTYPE,
    "load_in_8bit": _INT8,
    "load_in_4bit": _INT8,
    "quantization_config": _INT8,
    "device_map": _CPU,
    "max_memory": _CPU,
    "offload_folder": _CPU,
    "tp_plan": _CPU,
    "n_gpu_layers": _CPU,
    "variant": "give a folder in which the weights have their usual name, such as model.safetensors",
    "gguf_file": "give a folder with safetensors or torch files",
    "use_auth_token": "use token",
    "api_key": "use token",
    "force_download": "delete the model from the Hub's cache",
    "resume_download": _ALWAYS,
    "low_cpu_mem_usage": _ALWAYS,
    "proxies": "set HTTPS_PROXY",
    "mirror": "set HF_ENDPOINT",
    "user_agent": _HUB,
    "trust_remote_code": "leave it out: nothing in a model's files is ever executed",
    "code_revision": "leave it out: nothing in a model's files is ever executed",
    "weights_only": _ALWAYS,
    "use_safetensors": _FILES,
    "from_tf": "save the model with PyTorch first",
    "from_flax": "save the model with PyTorch first",
    "attn_implementation": "leave it out: there is one attention, with the same numbers on every machine",
    "config": "change config.json in the model's folder",
    "state_dict": "save the weights to a folder, and give that",
    "ignore_mismatched_sizes": "leave it out: weights of another shape are an error",
    "output_loading_info": "leave it out: what is not used is named in a CheckpointWarning",
    "use_fast": "leave it out: there is one tokenizer for each kind of file",
    "padding_side": "leave it out: prompts of a batch need no padding",
    "n_threads": "use num_threads",
    "num_workers": "use num_threads",
    "n_ctx": "leave it out: the model's positions bound a conversation",
    "model_path": "give the folder as the first argument",
    "pretrained_model_name_or_path": "give the name or folder as the first argument",
}


def refuse_foreign(given: Iterable[str], known: Iterable[str]) -> None:
    """TypeError with what to do instead, for the first argument that is not ours."""
    known = sorted(known)
    for name in given:
        close = difflib.get_close_matches(name, known, 1)
        advice = _INSTEAD.get(name) or (f"did you mean {close[0]}?" if close else "leave it out")
        raise TypeError(f"expected arguments of loading ({', '.join(known)}), found {name[:80]}; {advice}")
