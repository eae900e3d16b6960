"""Finds a folder of the user's that stands before one of ours: `import envs` takes the first on the path."""

from __future__ import annotations

import importlib.util
from pathlib import Path

OURS = ("embodied", "envs", "hardware", "human_ui", "llm_bridge", "policies")


class ShadowError(ValueError):
    """A package of Rapport's cannot be imported because another of that name comes first."""


def check_imports() -> None:
    """Raises `ShadowError`, which names the folder and the mend. Imports nothing: the stranger's code is not run."""
    home = Path(__file__).resolve().parent.parent
    for name in OURS:
        found = importlib.util.find_spec(name)
        if found is None:
            raise ShadowError(f"{name} is not beside rapport in {home}; install Rapport again (make install)")
        # A folder without __init__.py has no origin, but it shadows all the same.
        places = list(found.submodule_search_locations or [str(found.origin)])
        if Path(places[0]).resolve() != home / name:
            raise ShadowError(
                f"`import {name}` finds {places[0]}, not Rapport's own {home / name}: "
                f"rename that {name}, or run the command from another folder"
            )
