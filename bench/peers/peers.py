"""Who is compared, from which packages, and how is each held to an instruction set? All as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# What setup.py installs, one virtual environment a name. dialocpp runs in the environment of the driver.
# torch and transformers convert the model there; only the peer `transformers` runs on them.
ENVIRONMENTS: dict[str, list[str]] = {
    "transformers": ["torch==2.13.0", "transformers==5.23.0"],
    "ctranslate2": ["ctranslate2==4.8.5", "torch==2.13.0", "transformers==5.23.0"],
    "onnxruntime": ["onnxruntime==1.31.1", "optimum-onnx[onnxruntime]==0.1.0", "torch==2.13.0"],
    "openvino": ["openvino-genai==2026.4.1.0", "optimum-intel[openvino]==1.27.0", "torch==2.13.0"],
    "llama_cpp": [
        "torch==2.13.0",
        "transformers==4.57.6",
        "sentencepiece",
        "protobuf",
        "scikit-build-core",
        "cmake",
        "ninja",
    ],
}

LLAMA_SDIST = "llama-cpp-python==0.3.36"


@dataclass(frozen=True)
class Peer:
    """One line of the table: `peer_<engine>.py` with a variant, and dialocpp's variant to compare with."""

    engine: str
    variant: str
    rival: str

    @property
    def name(self) -> str:
        """How it is called in the table, the results and `--only`."""
        return f"{self.engine.replace('_', '.')} {self.variant}"


PEERS = [
    Peer("dialocpp", "int8", "int8"),
    Peer("openvino", "int8", "int8"),
    Peer("llama_cpp", "q8_0", "int8"),
    Peer("onnxruntime", "int8", "int8"),
    Peer("ctranslate2", "int8", "int8"),
    Peer("transformers", "int8", "int8"),
    Peer("transformers", "bfloat16", "int8"),
    Peer("dialocpp", "float16", "float32"),
    Peer("dialocpp", "float32", "float32"),
    Peer("onnxruntime", "float32", "float32"),
    Peer("ctranslate2", "float32", "float32"),
    Peer("transformers", "float32", "float32"),
]

# What each engine is told when the run is held to an instruction set. An engine that is not named has no such
# switch; it is reported as missing rather than measured with all that the machine has.
ISA_SWITCHES: dict[str, dict[str, dict[str, str]]] = {
    "avx2": {
        "dialocpp": {"DIALOCPP_ISA": "avx2"},
        "llama_cpp": {"LLAMA_BUILD": "avx2"},
        "ctranslate2": {
            "CT2_FORCE_CPU_ISA": "AVX2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        },
        "transformers": {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
        },
    },
    "avxvnni": {
        "dialocpp": {"DIALOCPP_ISA": "avxvnni"},
        "llama_cpp": {"LLAMA_BUILD": "avxvnni"},
    },
}

# llama.cpp chooses its instruction set when it is built.
_AVX2 = [
    "-DGGML_NATIVE=OFF",
    "-DGGML_AVX=ON",
    "-DGGML_AVX2=ON",
    "-DGGML_FMA=ON",
    "-DGGML_F16C=ON",
    "-DGGML_BMI2=ON",
]
LLAMA_BUILDS: dict[str, list[str]] = {
    "native": ["-DGGML_NATIVE=ON"],
    "avx2": _AVX2,
    "avxvnni": [*_AVX2, "-DGGML_AVX_VNNI=ON"],
}


@dataclass(frozen=True)
class Cache:
    """Where everything lies that can be made again."""

    root: Path

    def python(self, environment: str) -> Path:
        """The interpreter of one environment."""
        return self.root / "env" / environment / "bin" / "python"

    @property
    def llama_source(self) -> Path:
        """llama.cpp as llama-cpp-python carries it."""
        return self.root / "source" / "llama-cpp-python" / "vendor" / "llama.cpp"

    def llama_build(self, name: str) -> Path:
        """A build of LLAMA_BUILDS."""
        return self.root / "build" / f"llama.cpp-{name}"

    def model(self, shape: str) -> Path:
        """The random weights that all are made from."""
        return self.root / "models" / shape

    def prepared(self, shape: str, peer: Peer) -> Path:
        """The same weights in the peer's own form."""
        return self.root / "models" / f"{shape}-{peer.engine}-{peer.variant}"
