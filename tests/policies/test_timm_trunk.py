"""Trunks of timm: weights from a file, and what is said where there are none. No weights of photographs are at hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from policies.cpu_torchvision import ensure_torchvision
from policies.encoders import TrunkError, load
from policies.timm_trunk import timm_trunk

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3)).astype(np.uint8)
NAME = "resnet18"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    ensure_torchvision()
    import timm

    torch.manual_seed(5)
    return timm.create_model(NAME, num_classes=10).eval()


@pytest.fixture
def weights(model: torch.nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    return path


def test_torchvision_is_importable_and_once_is_enough() -> None:
    ensure_torchvision()
    import torchvision.transforms.v2  # noqa: F401

    assert ensure_torchvision() is False


def test_features_are_those_that_timm_pools_from_the_files_weights(model: torch.nn.Module, weights: Path) -> None:
    trunk = timm_trunk(NAME, weights, side=64, mean=(0, 0, 0), std=(1, 1, 1))
    assert trunk.size == 512 and not any(p.requires_grad for p in trunk.net.parameters())
    with torch.no_grad():
        pictures = torch.from_numpy(FRAMES.reshape(6, 64, 64, 3)).permute(0, 3, 1, 2) / 255
        own = model.forward_features(pictures).mean((2, 3)).reshape(2, 3, 512)  # the average over places
    np.testing.assert_allclose(trunk(FRAMES), own.numpy(), rtol=1e-4, atol=1e-4)


def test_colours_are_standardised_as_the_model_was_trained_or_as_is_asked_for(weights: Path) -> None:
    plain = timm_trunk(NAME, weights, side=64, mean=(0, 0, 0), std=(1, 1, 1))
    own = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which timm's resnet18 learned from
    for mean, std, trunk in (
        (*own, timm_trunk(NAME, weights, side=64)),
        ((0.4, 0.5, 0.6), (0.5, 0.5, 0.5), timm_trunk(NAME, weights, side=64, mean=(0.4, 0.5, 0.6), std=(0.5,) * 3)),
    ):
        middle, spread = (torch.tensor(x).reshape(3, 1, 1) for x in (mean, std))
        scaled = (torch.from_numpy(FRAMES[0]).permute(0, 3, 1, 2) / 255 - middle) / spread
        with torch.no_grad():
            np.testing.assert_allclose(trunk(FRAMES[0]), plain.net(scaled).numpy(), rtol=1e-4, atol=1e-4)
        assert trunk.fingerprint() != plain.fingerprint()
    with pytest.raises(TrunkError, match=r"std \(0, 0, 0\); give three finite"):
        timm_trunk(NAME, weights, std=(0, 0, 0))


def test_the_size_is_that_of_what_comes_out() -> None:
    trunk = timm_trunk("mobilenetv3_small_100", pretrained=False, side=32)
    assert trunk(FRAMES).shape == (2, 3, trunk.size) == (2, 3, 1024)  # it calls 576 its number of features


def test_saved_and_loaded_it_is_the_same(weights: Path, tmp_path: Path) -> None:
    trunk = timm_trunk(NAME, weights, side=64, mean=(0.4, 0.5, 0.6))
    trunk.save(tmp_path / "trunk.safetensors")
    again = load(tmp_path / "trunk.safetensors")
    assert again.fingerprint() == trunk.fingerprint() and (again(FRAMES) == trunk(FRAMES)).all()


def test_a_random_trunk_is_drawn_by_its_seed() -> None:
    one, same, other = (timm_trunk(NAME, pretrained=False, side=32, seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert np.isfinite(one(FRAMES)).all()


def test_without_weights_the_mends_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # as the variable of this name sets it
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrunkError, match=r"cannot be downloaded .*--trunk NAME=FILE.*self-trained trunk"):
        timm_trunk(NAME)


def test_files_that_are_not_of_this_model_are_told(weights: Path, tmp_path: Path) -> None:
    found = safetensors.torch.load_file(weights)
    wrong = tmp_path / "wrong.safetensors"
    for state, said in [
        ({k: v for k, v in found.items() if not k.startswith("layer4")}, r"lack layer4.0.conv1.weight and \d+ more"),
        ({**found, "conv1.weight": torch.zeros(64, 1, 7, 7)}, r"conv1.weight as \[64, 1, 7, 7\]"),
        ({**found, "conv1.weight": torch.full((64, 3, 7, 7), torch.nan)}, "NaN"),
    ]:
        safetensors.torch.save_file(state, wrong)
        with pytest.raises(TrunkError, match=said):
            timm_trunk(NAME, wrong, side=32)
    wrong.write_bytes(b"PK\x03\x04 a pickle of old")
    for path in (wrong, tmp_path / "none"):
        with pytest.raises(TrunkError, match=r"cannot be read .*give a safetensors file of timm's resnet18"):
            timm_trunk(NAME, path)


def test_a_name_or_side_that_timm_has_not_is_told() -> None:
    with pytest.raises(TrunkError, match=r"no model 'resnet17'"):
        timm_trunk("resnet17", pretrained=False)
    with pytest.raises(TrunkError, match=r"vit_tiny_patch16_224 does not take 112 x 112 pixels"):
        timm_trunk("vit_tiny_patch16_224", pretrained=False, side=112)
    trunk = timm_trunk("vit_tiny_patch16_224", pretrained=False)
    assert (trunk.size, trunk.side) == (192, 224)  # of itself, where it takes no other
    assert timm_trunk(NAME, pretrained=False).side == 112


def test_a_strangers_file_names_no_folder_and_no_place_on_a_hub(weights: Path, tmp_path: Path) -> None:
    trunk = timm_trunk("resnet18", weights)
    for name in ("hf-hub:nobody/nothing", "local-dir:/", "nothing"):
        replace(trunk, settings={**trunk.settings, "name": name}).save(tmp_path / "strange.safetensors")
        with pytest.raises(TrunkError, match="timm has no model"):
            load(tmp_path / "strange.safetensors")


def test_a_file_that_lies_about_its_size_is_told(weights: Path, tmp_path: Path) -> None:
    trunk = timm_trunk("resnet18", weights)
    replace(trunk, size=7).save(tmp_path / "lies.safetensors")
    with pytest.raises(TrunkError, match="512 features, and it says 7"):
        load(tmp_path / "lies.safetensors")
