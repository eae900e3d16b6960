"""Each kind of nuisance does what it says and nothing else."""

import dataclasses

import numpy as np
import pytest

from envs.pixels.nuisance import HEAVY, LEVELS, NONE, Nuisance, disturb, draw_look, nuisance_of, palette

T, H, W = 9, 48, 64


def scene():
    """Grey frames with a dark box in the middle, and the background around it."""
    frames = np.full((T, H, W, 3), 128, np.uint8)
    background = np.ones((T, H, W), bool)
    background[:, 16:32, 20:40] = False
    frames[~background] = 40
    return frames, background


def seen(seed=0, background=True, **kinds):
    frames, free = scene()
    look = draw_look(Nuisance(**kinds), T, np.random.default_rng(seed))
    return disturb(frames, free if background else None, look), look


def test_nothing_on_changes_nothing():
    np.testing.assert_array_equal(seen()[0], scene()[0])


def test_a_texture_is_behind_and_stands_still():
    frames, free = scene()
    out, _ = seen(texture=0.6)
    np.testing.assert_array_equal(out[~free], frames[~free])
    assert out[free].std() > 8 and (out == out[:1]).all()
    assert seen(texture=0.2)[0][free].std() < out[free].std() / 2
    np.testing.assert_array_equal(seen(texture=0.6, background=False)[0], frames)


def test_distractors_move_behind_what_matters():
    frames, free = scene()
    out, _ = seen(distractors=3)
    changed = (out != frames).any(-1)
    assert not changed[~free].any() and 0.01 < changed.mean() < 0.3
    assert all((changed[t] != changed[t + 1]).any() for t in range(T - 1))
    in_front = (seen(distractors=30, background=False)[0] != frames).any(-1)
    assert in_front[~free].any()


def test_flicker_is_one_factor_for_each_frame():
    frames, _ = scene()
    out, look = seen(flicker=0.3)
    assert look.gain.std() > 0.05 and (np.abs(look.gain - 1) <= 0.3).all()
    np.testing.assert_allclose(out, frames * look.gain[:, None, None, None], atol=0.5)


def test_the_camera_moves_the_picture_by_whole_pixels():
    frames, _ = scene()
    out, look = seen(shift=4 / W, jitter=2 / W)
    pixels = np.rint(look.offset * W).astype(int)
    assert len(np.unique(pixels, axis=0)) > 3 and np.abs(pixels).max() <= 6
    for image, plain, (right, down) in zip(out, frames, pixels, strict=True):
        np.testing.assert_array_equal(image[10:-10, 10:-10], np.roll(plain, (down, right), (0, 1))[10:-10, 10:-10])
    still = draw_look(Nuisance(shift=0.1), T, np.random.default_rng(0)).offset
    assert (still == still[0]).all() and still.any()


def test_noise_has_the_spread_it_says_and_is_fresh_in_each_frame():
    frames, _ = scene()
    out, _ = seen(noise=0.04)
    change = out.astype(float) - frames
    assert change.std() == pytest.approx(0.04 * 255, rel=0.03) and abs(change.mean()) < 0.2
    assert abs(np.corrcoef(change[0].ravel(), change[1].ravel())[0, 1]) < 0.05


def test_one_frame_alone_is_as_in_its_video():
    frames, free = scene()
    look = draw_look(HEAVY, T, np.random.default_rng(3))
    whole = disturb(frames, free, look)
    for t in range(T):
        np.testing.assert_array_equal(disturb(frames[t : t + 1], free[t : t + 1], look, t)[0], whole[t])


@pytest.mark.parametrize("off", [field.name for field in dataclasses.fields(Nuisance)])
def test_turning_one_kind_off_leaves_the_others_as_they_were(off):
    looks = [
        draw_look(nuisance, T, np.random.default_rng(7)) for nuisance in (HEAVY, dataclasses.replace(HEAVY, **{off: 0}))
    ]
    belongs = {
        "texture": {"coarse", "fine"},
        "colours": set(),
        "shift": {"offset"},
        "jitter": {"offset"},
        "flicker": {"gain"},
        "distractors": {"start", "velocity", "radius", "colour"},
        "noise": {"noise"},
    }
    differ = {
        field.name
        for field in dataclasses.fields(looks[0])
        if not np.array_equal(*(getattr(look, field.name) for look in looks))
    }
    assert differ == belongs[off]


def test_a_palette_keeps_what_matters_apart():
    own = np.array([[240, 240, 240], [60, 60, 60], [200, 40, 40.0]])
    np.testing.assert_array_equal(palette(own, NONE, np.random.default_rng(0)), own)
    drawn = np.stack([palette(own, HEAVY, np.random.default_rng(seed)) for seed in range(200)])
    apart = np.linalg.norm(drawn[:, :, None] - drawn[:, None], axis=-1)[:, ~np.eye(3, dtype=bool)]
    assert apart.min() > 80 and (drawn >= 0).all() and (drawn <= 255).all() and drawn.std(0).min() > 40
    near = np.stack([palette(own, Nuisance(colours=0.1), np.random.default_rng(seed)) for seed in range(20)])
    assert np.abs(near - own).max() <= 0.1 * 255


def test_levels_have_names_and_grow():
    assert nuisance_of("heavy") is HEAVY and nuisance_of(HEAVY) is HEAVY
    light, heavy = (dataclasses.astuple(LEVELS[name]) for name in ("light", "heavy"))
    assert all(a <= b for a, b in zip(light, heavy, strict=True)) and not any(dataclasses.astuple(NONE))


def test_what_cannot_be_is_refused():
    frames, free = scene()
    look = draw_look(NONE, T, np.random.default_rng(0))
    with pytest.raises(ValueError, match="'strong'"):
        nuisance_of("strong")
    with pytest.raises(ValueError, match=r"noise is -0.1"):
        Nuisance(noise=-0.1)
    with pytest.raises(ValueError, match="texture is 2"):
        Nuisance(texture=2)
    with pytest.raises(ValueError, match="flicker is nan"):
        Nuisance(flicker=float("nan"))
    with pytest.raises(ValueError, match="float64"):
        disturb(frames / 255, free, look)
    with pytest.raises(ValueError, match="drawn for 9"):
        disturb(frames, free, look, 1)
    with pytest.raises(ValueError, match="background has shape"):
        disturb(frames, free[:1], look)
