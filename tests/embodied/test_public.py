"""The public names: all there, from a fresh process, and the durable ones without torch."""

import subprocess
import sys

import pytest

import embodied


@pytest.mark.parametrize("name", embodied.__all__)
def test_every_public_name_exists(name):
    assert getattr(embodied, name) is not None


def test_no_name_is_hidden_by_a_file_of_the_same_name():
    assert not set(embodied.__all__) & set(embodied._NAMES)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(
        AttributeError, match=r"embodied has no 'Fit'; it has Additive, Advantage, AdvantageEnsemble, Agent"
    ):
        _ = embodied.Fit


def test_durable_names_load_without_torch():
    code = "import sys; from embodied import Contract, Episode, Query, Store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
