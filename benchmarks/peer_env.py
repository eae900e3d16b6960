"""The environment in which a peer lives: imitation's pins (gymnasium 0.29, stable-baselines3 2.2) do not go with ours,
and trl is nothing that we need."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PINS = HERE / "imitation.txt"
FOLDER = HERE.parent / ".venv-imitation"


def add_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peer-env",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="the virtual environment with imitation, made here when it is missing",
    )


def interpreter(folder: Path, pins: Path = PINS) -> Path:
    """Its Python. The environment is made when it is missing, incomplete, or of other pins (about 2 GB)."""
    python, made = folder / "bin/python", folder / "pins.txt"
    if not (made.exists() and made.read_text() == pins.read_text()):
        if folder.exists() and not made.exists() and any(folder.iterdir()):
            sys.exit(f"{folder} was not made here; choose another --peer-env, or remove it")
        print(f"Making {folder} from {pins.name}; it takes some minutes, once.", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        made.touch()
        if subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", pins]).returncode:
            sys.exit(f"pip could not install {pins}; what it said is above")
        made.write_text(pins.read_text())
    return python


def run(folder: Path, script: str, *args: object, pins: Path = PINS) -> dict[str, Any]:
    """What `benchmarks/peers/<script>.py` prints last, read as JSON; one thread, as here."""
    command = [str(interpreter(folder, pins)), str(HERE / "peers" / f"{script}.py"), *map(str, args)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # ours is not for them
    shown = subprocess.run(command, env=environment | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
    if shown.returncode:
        sys.exit(f"{script}.py ended with exit code {shown.returncode}; what it said is above")
    result: dict[str, Any] = json.loads(shown.stdout.splitlines()[-1])
    return result
