"""Talk to DialoGPT and other GPT-2 dialogue models on a CPU.

    from dialocpp import ChatSession
    chat = ChatSession.from_pretrained()
    print(chat.reply("Hello, how are you?"))
"""

from .decoding import GenerationConfig
from .errors import BackendError, CapacityError, CheckpointError, DialocppError
from .model import Choice, Model, Score
from .presets import PRESETS
from .rankers import MMI, AntiLM, DialogRPT
from .reply import Candidate, Generation, Reply, Timings, Usage
from .reply_stream import ReplyStream
from .session import ChatSession

__version__ = "0.1.0"

__all__ = [
    "MMI",
    "PRESETS",
    "AntiLM",
    "BackendError",
    "Candidate",
    "CapacityError",
    "ChatSession",
    "CheckpointError",
    "Choice",
    "DialocppError",
    "DialogRPT",
    "Generation",
    "GenerationConfig",
    "Model",
    "Reply",
    "ReplyStream",
    "Score",
    "Timings",
    "Usage",
]
