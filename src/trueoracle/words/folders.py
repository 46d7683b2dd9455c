"""Where things lie that can be made again: decoded data, compiled kernels, trainings in the making."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """`TRUEORACLE_CACHE`, or the user's cache folder."""
    named = os.environ.get("TRUEORACLE_CACHE")
    return Path(named) if named else user_cache_path("trueoracle")


def checkpoint_folder() -> Path:
    """Where long trainings are written down while they last."""
    return cache_folder() / "unfinished"
