"""From a model's name to arrays for the core, and back to a file: what is a checkpoint?"""

from .export import export_checkpoint
from .load import LoadedCheckpoint, load_checkpoint
from .model_source import Source

__all__ = ["LoadedCheckpoint", "Source", "export_checkpoint", "load_checkpoint"]
