"""Where what is downloaded and what is trained is kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from repro.names import ReproError


def user_cache() -> Path | None:
    """The user's cache folder; none where the user has no home."""
    try:
        folder = Path(platformdirs.user_cache_dir("repro"))
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None


def cache_folder() -> Path:
    """$REPRO_CACHE, or the user's cache folder; ReproError where there is neither."""
    given = os.environ.get("REPRO_CACHE")
    folder = Path(given) if given else user_cache()
    if folder is None:
        raise ReproError("this user has no home folder to keep a cache in; set REPRO_CACHE to a folder for it")
    return folder
