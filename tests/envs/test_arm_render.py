import av
import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401 (registers the environment)
from envs import arm_draw
from envs.arm import HORIZON, CupArms, Layouts
from envs.arm_render import Clip, Renderer, RenderError, gl, render_clips, render_frames, write_mp4
from envs.carriers import careful, hurried

SIZE = (320, 240)


@pytest.fixture(scope="module")
def episodes() -> tuple[Layouts, np.ndarray, np.ndarray]:
    """A layout, and joint angles [T,7] of a hurried and of a careful episode in it."""
    out = []
    for carrier in (hurried(np.random.default_rng(0), 1), careful()):
        arms = CupArms(1, seed=3)
        obs, _ = arms.reset(seed=3)
        qpos = []
        for _ in range(HORIZON):
            qpos.append(arms.qpos[0])
            layout = arms.layouts
            obs = arms.step(carrier(obs))[0]
        out.append(np.stack(qpos))
    return layout, out[0], out[1]


def near(frame: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many pixels have about this colour."""
    return int((np.abs(frame.astype(int) - colour).max(-1) < 30).sum())


pytestmark = pytest.mark.slow  # they draw, and `make test` needs no OpenGL; without one they fail


def test_the_trail_is_red_where_the_wishes_are_broken_and_grows(episodes):
    layout, rushed, calm = episodes
    with Renderer(*SIZE) as renderer:
        before, after = renderer.frames(rushed[::8], layout), renderer.frames(calm[::8], layout)
    assert before.shape == (10, 240, 320, 3) and before.dtype == np.uint8
    red, green = (232, 52, 48), (38, 186, 92)
    assert near(before[-1], red) > near(before[3], red) + 30 > near(before[0], red) + 30
    assert near(after[-1], red) <= near(before[0], red)
    assert near(after[-1], green) > near(after[0], green) + 30


def test_only_what_moves_changes(episodes):
    layout, rushed, _ = episodes
    with Renderer(*SIZE) as renderer:
        frames = renderer.frames(rushed[[0, 30]], layout).astype(int)
        again = renderer.frames(rushed[[0, 30]], layout)
        # The dressed model has the very kinematics of the simulated one.
        cup, tilt = renderer.cups(rushed[:1])
    np.testing.assert_array_equal(frames, again)
    changed = np.abs(frames[1] - frames[0]).max(-1) > 8
    assert 0.02 < changed.mean() < 0.4
    assert not changed[:10].any() and not changed[:, -20:].any()
    np.testing.assert_allclose(cup[0], layout.start[0], atol=1e-3)
    assert tilt[0] < 1e-3


def test_a_clip_side_by_side_plays_everywhere(episodes, tmp_path):
    layout, rushed, calm = episodes
    clips = [Clip(rushed[:6], layout, "before"), Clip(calm[:4], layout, "after")]
    paths = render_clips({"both": clips, "one": clips[:1]}, tmp_path / "clips", size=SIZE)
    assert sorted(path.name for path in paths.values()) == ["both.mp4", "one.mp4"]
    with av.open(str(paths["both"])) as video:
        stream = video.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(stream)]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 20
    assert len(frames) == 6 and frames[0].shape == (240, 648, 3)
    # The shorter one waits; the longer one goes on.
    right, left = [frame[:, 328:] for frame in frames], [frame[:, :320] for frame in frames]
    assert np.abs(right[5] - right[3]).max() < 30 < np.abs(left[5] - left[3]).max()
    content = paths["both"].read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded


def test_labels_are_burned_in(episodes):
    layout, rushed, _ = episodes
    frame = render_frames([Clip(rushed[:1], layout, "before"), Clip(rushed[:1], layout)], size=SIZE)[0]
    named, bare = frame[:, :320], frame[:, 328:]
    differs = np.abs(named.astype(int) - bare).max(-1) > 20
    assert differs[:40, :100].sum() > 300 and not differs[60:].any()


def test_a_users_own_envs_folder_does_not_get_in_the_way(episodes, tmp_path, monkeypatch):
    layout, rushed, _ = episodes
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("raise SystemExit('wrong envs')")
    monkeypatch.chdir(tmp_path)
    assert render_frames([Clip(rushed[:1], layout)], size=(64, 48)).shape == (1, 48, 64, 3)


def test_without_opengl_it_says_what_to_install(episodes, tmp_path, monkeypatch):
    layout, rushed, _ = episodes
    assert gl() in arm_draw.BACKENDS
    monkeypatch.setattr(arm_draw, "BACKENDS", ())
    gl.cache_clear()
    try:
        with pytest.raises(RenderError, match=r"apt-get install .*libegl1"):
            render_clips({"a": [Clip(rushed[:1], layout)]}, tmp_path)
        with pytest.raises(RenderError, match=r"apt-get install .*libegl1"):
            Renderer()
    finally:
        gl.cache_clear()


def test_what_does_not_fit_is_named(episodes, tmp_path):
    layout, rushed, _ = episodes
    with pytest.raises(ValueError, match=r"\(3, 6\).*\[T,7\]"):
        Clip(np.zeros((3, 6)), layout)
    with pytest.raises(ValueError, match="finite"):
        Clip(np.full((3, 7), np.nan), layout)
    with pytest.raises(ValueError, match="one layout, got 2"):
        Clip(rushed, layout[[0, 0]])
    with pytest.raises(ValueError, match="even"):
        render_clips({"a": [Clip(rushed, layout)]}, tmp_path, size=(321, 240))
    with pytest.raises(ValueError, match="plain file name"):
        render_clips({"../a": [Clip(rushed, layout)]}, tmp_path)
    with pytest.raises(ValueError, match="at least one panel"):
        render_clips({"a": []}, tmp_path)
    with pytest.raises(ValueError, match="even"):
        write_mp4(np.zeros((1, 3, 4, 3), np.uint8), tmp_path / "a.mp4")


def test_gymnasium_renders(episodes):
    env = gymnasium.make("rapport/CupArm-v0", render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    env.step(np.ones(5, np.float32))
    assert first.shape == (480, 640, 3) and (first != env.render()).any()
    check_env(env.unwrapped)
    env.close()
