"""Talk to DialoGPT and other GPT-2 dialogue models on a CPU.

    from dialocpp import ChatSession
    chat = ChatSession.from_pretrained()
    print(chat.reply("Hello, how are you?"))
"""

from .chat.async_reply_stream import AsyncReplyStream
from .chat.presets import PRESETS
from .chat.rankers import MMI, AntiLM, DialogRPT
from .chat.reply import Candidate, Reply
from .chat.reply_stream import ReplyStream
from .chat.session import ChatSession
from .decoding.generation_config import GenerationConfig
from .engine.results import Generation, Timings, Usage
from .errors import BackendError, CapacityError, CheckpointError, DialocppError, ReplyCancelledError
from .model import Choice, Model, Score

__version__ = "0.1.0"

__all__ = [
    "MMI",
    "PRESETS",
    "AntiLM",
    "AsyncReplyStream",
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
    "ReplyCancelledError",
    "ReplyStream",
    "Score",
    "Timings",
    "Usage",
]
