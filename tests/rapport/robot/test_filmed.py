"""A robot with a camera on the network: what it saw while a policy led is what people are asked about."""

import time

import numpy as np
import pytest

from embodied.contract import Contract, Joint, Source
from hardware.frames import beside, frames, kept
from hardware.journal import journals
from human_ui import desk
from human_ui.clips import decode
from human_ui.site import open_site
from policies import serve
from rapport.cli import main
from rapport.robot.queries import PREFIX, origin
from tests.hardware.gateway import robot as robots
from tests.hardware.gateway.test_policies import foreign
from tests.hardware.ip_camera import HEIGHT, STEPS, WIDTH, camera, number_of

pytestmark = pytest.mark.slow
NAMES = ("a", "b")


def swings(seen):
    """Up and down with the first joint, from where it is told to be."""
    seconds = seen["observation/clock"] + np.arange(12) / 20
    actions = np.repeat(seen["observation/command"][None], 12, 0)
    actions[:, 0] = 0.2 * (1 - np.cos(2 * seconds))
    return {"actions": actions}


def filmed(folder):
    """The robot's file, once it has led two episodes of four seconds each before a camera."""
    agreed = Contract(
        "bench",
        tuple(Joint(name, -1.5, 1.5) for name in NAMES),
        20.0,
        "joint_position",
        (Source("angles", 2, "rad", "joint"),),
        (0.0,) * 2,
        (1.0,) * 2,
        (),
        "to swing",
    )
    (folder / "contract.json").write_text(serve.to_text(agreed))
    with camera(fps=20.0) as address, foreign(swings) as server:
        file = robots.two_joints(folder / "r")
        lens = f'device = "{address}"\nwidth = {WIDTH}\nheight = {HEIGHT}\nfps = 20.0\n'
        file.write_text(f'{file.read_text()}[[camera]]\nname = "top"\n{lens}')
        url = "ws://{}:{}".format(*server.socket.getsockname()[:2])
        given = ["--policy", url, "--contract", str(folder / "contract.json")]
        with robots.running(file, *given) as robot, robot.http() as http:
            http.headers["X-Lease"] = http.post("/v1/lease", json={"seconds": 60}).json()["lease"]
            assert http.post("/v1/arm").status_code == 200
            for _ in range(2):
                http.patch("/v1/lease", json={"seconds": 60})
                assert http.post("/v1/home").status_code == 200
                robot.until(seconds=60, mode="HOLD", episode="")
                assert http.post("/v1/start", json={"task": "swing"}).json() == {"done": True}
                time.sleep(4.5)
                http.post("/v1/stop", json={"done": True})
                robot.until(seconds=60, mode="HOLD", episode="")
    return file


def test_people_are_shown_what_the_camera_saw(tmp_path, capsys):
    file, study = filmed(tmp_path), tmp_path / "study"
    folder = file.parent / "episodes"
    assert all(kept(beside(path))["top"].frames > 10 for path in journals(folder))
    assert main(["robot", "queries", str(file), str(study)]) == 0
    assert " 0 questions" not in capsys.readouterr().out
    assert main(["robot", "episodes", str(file)]) == 0
    assert "pictures: " in capsys.readouterr().out
    site = open_site(study)
    with site.store as store:
        queries = {query.id: query for query in store.queries(prefix=f"{PREFIX}pair-")}
        lent = desk.lend(store, site.study(), "x", 8, 0.0, site.rng)  # as the page gets them
        assert lent and {one.query for one in lent} <= set(queries)
        for one in lent:
            for place, k in enumerate(one.shown):
                segment = queries[one.query].segments[k]
                lies = origin(store.episodes.load(segment.episode), segment)
                first_ns = told(store, segment)["first_ns"]
                stored = list(frames(beside(folder / lies.journal), "top"))
                within = [
                    f
                    for f in stored
                    if first_ns + (lies.begins - 0.6) * 1e9 <= f.time_ns <= first_ns + (lies.ends + 0.1) * 1e9
                ]
                shown = [number_of(picture) for picture in decode(site.clips.get(one.clips[place]))]
                passed = np.diff(shown) % STEPS
                assert len(set(shown)) > 10 and passed.max() <= 12 and set(shown) <= {number(f) for f in within}


def number(stored):
    return number_of(stored.picture())


def told(store, segment):
    from hardware.to_episodes import about

    return about(store.episodes.load(segment.episode))
