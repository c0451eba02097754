"""Talk to DialoGPT and other GPT-2 dialogue models on a CPU.

    from dialocpp import ChatSession
    chat = ChatSession.from_pretrained()
    print(chat.reply("Hello, how are you?"))
"""

from .decoding import GenerationConfig
from .errors import BackendError, CapacityError, CheckpointError, DialocppError
from .model import Model, Score
from .reply import Generation, Reply, Timings, Usage
from .session import ChatSession, ReplyStream

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "CapacityError",
    "ChatSession",
    "CheckpointError",
    "DialocppError",
    "Generation",
    "GenerationConfig",
    "Model",
    "Reply",
    "ReplyStream",
    "Score",
    "Timings",
    "Usage",
]
