"""What is in a model's files, and as which arrays? May import `errors` and `_core`; knows no text and no turns."""

from .export import export_checkpoint
from .load import LoadedCheckpoint, load_checkpoint
from .model_source import Source

__all__ = ["LoadedCheckpoint", "Source", "export_checkpoint", "load_checkpoint"]
