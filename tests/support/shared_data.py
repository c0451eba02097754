"""Where is the data that lies beside a checkout, and is not part of the repository?"""

from pathlib import Path

SHARED = Path(__file__).parents[3] / "shared"
