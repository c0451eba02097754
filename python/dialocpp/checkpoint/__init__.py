"""From a model's name to arrays for the core, and back to a file: what is a checkpoint?"""

from .export import export_checkpoint
from .load import LoadedCheckpoint, load_checkpoint

__all__ = ["LoadedCheckpoint", "export_checkpoint", "load_checkpoint"]
