"""People rank videos of a folder: answers from the desk and from a real browser, skips, and nobody at all."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from embodied.records import Rank, Skip
from human_ui import desk, people
from human_ui.server import config, listen
from human_ui.site import open_site
from policies import film_reward
from rapport.cli import main
from rapport.train.people import Asking
from rapport.visual import Settings, learn_from_videos
from rapport.visual.report import write_report
from tests.human_ui.served import make_study, shot

N = 14


def brightness(name):
    """Of a video by its name: 0003-video3.npz."""
    return int(name.split("video")[-1].split(".")[0])


@pytest.fixture
def videos(tmp_path):
    """A square that moves on a ground that is the lighter the later the name; of several sizes and lengths."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for n in range(N):
        frames = np.full((5 + n % 3, 40, 40 + n % 2, 3), 10 + 15 * n, np.uint8)
        for t, frame in enumerate(frames):
            frame[10:20, 4 * t : 4 * t + 8] = 255 - 15 * n
        np.savez(folder / f"video{n}.npz", frames=frames)
    return folder


def own(videos, **kwargs):
    return Settings(videos=str(videos), answers=8, frames=4, pretraining=5, reward="video", **kwargs)


class Answering(threading.Thread):
    """Whoever likes light videos; every `skips`-th question is left out."""

    def __init__(self, study, skips=0):
        super().__init__(daemon=True)
        self.site, self.skips, self.done, self.n = open_site(study), skips, threading.Event(), 0

    def run(self):
        rng, store = np.random.default_rng(0), self.site.store
        while not self.done.is_set():
            for lent in desk.lend(store, self.site.study(), "ann", 4, time.time(), rng):
                (query,) = store.queries([lent.query])
                light = [brightness(query.segments[k].episode) for k in lent.shown]
                self.n += 1
                skip = self.skips and self.n % self.skips == 0
                said = Skip("alike") if skip else Rank(tuple(int(k) for k in np.argsort(light)[::-1]))
                desk.take(store, "ann", lent.lease, f"said-{self.n}", said, {}, "", time.time())
            self.done.wait(0.05)
        store.close()

    def __exit__(self, *_):
        self.done.set()
        self.join()

    def __enter__(self):
        self.start()
        return self


def test_a_folder_of_videos_becomes_a_reward_by_what_people_say(videos, tmp_path):
    study = make_study(tmp_path / "study")
    with Answering(study, skips=5):
        result = learn_from_videos(own(videos), tmp_path / "run", ask=Asking(study))
    assert result["budget"]["asked"] == 8 and result["budget"]["skipped"] == 1
    assert "steps" not in result and len(result["worth"]) == N and len(result["demos"]) == 1
    assert "All 14 videos" in write_report(tmp_path / "run").read_text()
    reward = film_reward.load(tmp_path / "run" / "reward")
    assert reward.kind == "video" and reward.frames == 4


def test_stopped_while_people_answer_it_asks_the_same_and_goes_on(videos, tmp_path):
    """Also the folder may change meanwhile: the run has its own copy."""
    study = make_study(tmp_path / "study")
    asking = Asking(study, patience=1e-3)

    class Stop(Exception):
        pass

    def looks(left, people):
        raise Stop

    from rapport.visual.training import Show

    with pytest.raises(Stop):
        learn_from_videos(own(videos), tmp_path / "run", ask=asking, show=Show(looks=looks))
    (videos / "video3.npz").unlink()
    site = open_site(study)
    before = [q.id for q in site.store.queries()]
    with Answering(study):
        result = learn_from_videos(own(videos), tmp_path / "run", ask=replace(asking, patience=5.0))
    assert [q.id for q in site.store.queries()][: len(before)] == before and len(before) == 7
    assert result["budget"]["answered"] == 8 and len(result["worth"]) == N
    site.store.close()


def test_where_all_is_skipped_nothing_is_learned(videos, tmp_path):
    study = make_study(tmp_path / "study")
    with Answering(study, skips=1), pytest.raises(ValueError, match="None of the 7 questions was answered"):
        learn_from_videos(own(videos), tmp_path / "run", ask=Asking(study))


def test_nobody_is_waited_for_longer_than_was_said(videos, tmp_path):
    study, said = make_study(tmp_path / "study"), []
    from rapport.visual.training import Show

    with pytest.raises(ValueError, match="None of the 7 questions"):
        learn_from_videos(own(videos), tmp_path / "run", ask=Asking(study, patience=0.02), show=Show(says=said.append))
    assert "rapport ask" in said[0]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--videos", "{v}"], "give --ask STUDY"),
        (["--videos", "{v}", "--ask", "{s}", "--steps", "500"], "--steps: of training an agent"),
        (["--videos", "{v}", "--ask", "{s}", "--teacher", "noisy"], "--teacher: of a simulated person"),
        (["--videos", "{v}", "--ask", "{s}", "--pool", "9"], "--pool: of filming episodes"),
        (["--videos", "{s}", "--ask", "{s}"], "has no videos"),
        (["--videos", "{v}", "--ask", "{s}", "--answers", "400"], "14 videos make 364 questions"),
        (["--env", "Reacher-v5", "--reward", "rapl", "--method", "surf"], "--method: not of a run about videos"),
        (["--env", "Reacher-v5", "--reward", "true", "--trunk", "resnet18"], "--trunk: of learning a reward"),
        (["--env", "Reacher-v5", "--reward", "rapl", "--patience", "3"], "--patience: of asking people"),
        (["--env", "Reacher-v5", "--reward", "rapl", "--teacher", "myopic"], "does not rank videos"),
        (
            ["--env", "Reacher-v5", "--pool", "9", "--pay", "drop"],
            "--pay, --pool: of a reward from videos; give --reward",
        ),
        (["--env", "Reacher-v5", "--reward", "rapl", "--horizon", "-5"], "A horizon of -5 steps"),
        (["--env", "Reacher-v5,size", "--reward", "true"], "'size' is no argument"),
    ],
)
def test_flags_that_make_each_other_meaningless_are_refused(videos, tmp_path, capsys, flags, says):
    study = make_study(tmp_path / "study")
    flags = [flag.format(v=videos, s=study) for flag in flags]
    assert main(["train", *flags, "--out", str(tmp_path / "run")]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_person_ranks_videos_in_a_browser(videos, tmp_path, browser):
    import uvicorn

    study = make_study(tmp_path / "study")
    site, listening = open_site(study), listen(0)
    server = uvicorn.Server(config(site, listening))
    serving = threading.Thread(target=server.run, args=([listening],), daemon=True)
    serving.start()
    found = {}
    settings = replace(own(videos), answers=6)
    running = threading.Thread(
        target=lambda: found.update(learn_from_videos(settings, tmp_path / "run", ask=Asking(study)))
    )
    running.start()
    page = browser.new_context(viewport={"width": 1200, "height": 760}).new_page()
    page.goto("http://{}:{}".format(*listening.getsockname()[:2]) + f"/#{people.invite(site.store, 'ann')}")
    for n in range(6):
        page.wait_for_function("() => document.querySelectorAll('#stage video').length === 3", timeout=60_000)
        page.wait_for_timeout(600)
        for key in ("3", "1", "2"):
            page.keyboard.press(key)
        if n == 0:
            shot(page, "visual-triplet")
        with page.expect_response(lambda r: "/api/answers/" in r.url and r.request.method == "PUT"):
            page.keyboard.press("Enter")
    running.join(timeout=120)
    page.context.close()
    server.should_exit = True
    serving.join()
    site.store.close()
    assert found["budget"]["answered"] == 6 and found["demos"]
