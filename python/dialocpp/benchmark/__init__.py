"""How fast does a model run here? May import `chat` and all rooms below it; `cli/bench.py` shows what it measures."""

from .measure import Chat, Latency, Throughput, measure_chat, measure_latency, measure_throughput
from .random_model import SHAPES, write_random_model
from .roofs import Roofs, measure_roofs

__all__ = [
    "SHAPES",
    "Chat",
    "Latency",
    "Roofs",
    "Throughput",
    "measure_chat",
    "measure_latency",
    "measure_roofs",
    "measure_throughput",
    "write_random_model",
]
