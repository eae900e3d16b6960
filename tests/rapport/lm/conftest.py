"""A model that speaks within seconds and comparisons of its answers, as files; gold says which is better."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from policies.cpu_torchvision import ensure_torchvision

ensure_torchvision()


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> str:
    from llm_bridge.testbed.pretrain import NANO, folder, pretrained

    cache = tmp_path_factory.mktemp("cache")
    pretrained(cache, NANO)
    return str(folder(cache, NANO))


@pytest.fixture(scope="session")
def rows(nano: str) -> list[dict[str, object]]:
    from transformers import LlamaForCausalLM

    from llm_bridge.testbed import tutor
    from rapport.lm.data import comparisons

    return comparisons(LlamaForCausalLM.from_pretrained(nano), tutor.split()[0][:120], np.random.default_rng(0))


@pytest.fixture
def pairs(rows: list[dict[str, object]], tmp_path: Path) -> Path:
    return written(tmp_path / "pairs.jsonl", rows)


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def copied(model: str, to: Path) -> Path:
    """The model's folder, to be changed."""
    return Path(shutil.copytree(model, to))
