"""Two models that are pre-trained here: one in seconds, and the one of every figure, which `slow` tests share."""

from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from llm_bridge.testbed.pretrain import NANO, pretrained

CACHE = Path(__file__).parents[3] / "runs" / "cache"


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> LlamaForCausalLM:
    return pretrained(tmp_path_factory.mktemp("cache"), NANO)


@pytest.fixture(scope="session")
def usual() -> LlamaForCausalLM:
    return pretrained(CACHE)
