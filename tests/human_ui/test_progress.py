"""How a training goes, told to the owner: rounds kept once, curves, and how many more answers would matter."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from fastapi.testclient import TestClient

from embodied.records import RecordError
from embodied.store import StoreError
from human_ui import people
from human_ui.app import create_app
from human_ui.client import Client, ClientError
from human_ui.curves import curve
from human_ui.progress import BINS, held_out, outlook, progress, put_progress
from human_ui.site import open_site
from human_ui.training import training
from tests.human_ui.served import shot


def rounds(site, scale, n=40, new=20, noise=True, run="cups", seed=0):
    """A reward that foretells .9 - .4 exp(-answers / scale) of the answers to come, in rounds of `new` answers."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        p = 0.9 - 0.4 * np.exp(-new * i / scale)
        right = rng.binomial(new, p) / new if noise else p
        row = {"answers": new * (i + 1), "steps": 1000 * (i + 1), "accuracy": right, "return": -50 + i, "loss": 0.5}
        put_progress(site.store, run, i, row)
    return progress(site.store)[run]


def test_the_same_step_again_replaces_what_was_told(tmp_path, place):
    (tmp_path / "study.toml").write_text('name = "Cups"\n')
    site = open_site(tmp_path, place)
    with site.store as store:
        assert progress(store) == {}
        put_progress(store, "b", 1, {"answers": 20})
        put_progress(store, "a", 0, {"answers": 10, "return": None})
        put_progress(store, "b", 0, {"answers": 10, "accuracy": np.float32(0.5)})
        put_progress(store, "b", 1, {"answers": 30, "own": 1})
        found = progress(store)
        assert list(found) == ["b", "a"], "the one that was heard of last is first"
        assert [(one.step, one.figures) for one in found["b"]] == [
            (0, {"answers": 10, "accuracy": 0.5}),
            (1, {"answers": 30, "own": 1}),
        ]
        assert found["a"][0].figures == {"answers": 10}


@pytest.mark.parametrize(
    ("told", "kind", "sentence"),
    [
        (("", 0, {"answers": 1}), RecordError, "name of a run has 0 characters"),
        (("a", -1, {"answers": 1}), StoreError, "step of run 'a' is -1; give a whole number, 0 or more"),
        (("a", True, {"answers": 1}), StoreError, "step of run 'a' is True"),
        (("a", 0, {}), StoreError, "run 'a' tells no answers at step 0; give how many it has read so far"),
        (("a", 0, {"answers": -1}), StoreError, "answers of run 'a' at step 0 is -1.0; give 0 to"),
        (("a", 0, {"answers": 1, "accuracy": 75}), StoreError, "accuracy of run 'a' at step 0 is 75.0; give 0 to 1"),
        (
            ("a", 0, {"answers": 1, "return": float("nan")}),
            StoreError,
            "return of run 'a' at step 0 is nan; give a finite",
        ),
        (("a", 0, {"answers": "1"}), StoreError, "answers of run 'a' at step 0 is '1'"),
        (
            ("a", 0, {"answers": 1, **{f"x{i}": 0 for i in range(50)}}),
            StoreError,
            "tells 51 figures of step 0; give at",
        ),
    ],
)
def test_what_makes_no_sense_is_a_sentence_and_is_not_kept(site, told, kind, sentence):
    with pytest.raises(kind, match=re.escape(sentence)):
        put_progress(site.store, *told)
    assert progress(site.store) == {}


def test_accuracy_is_of_the_reward_before_it_was_fitted(site):
    """A round's share is of a reward that had read what the round before had; a round without one is left out."""
    for step, row in enumerate(
        [
            {"answers": 10},
            {"answers": 20, "accuracy": 0.5},
            {"answers": 20},
            {"answers": 40, "accuracy": 0.75, "decided": 16},
        ]
    ):
        put_progress(site.store, "a", step, row)
    assert held_out(progress(site.store)["a"]) == [(10, 0.5, 10), (20, 0.75, 16)]


def test_many_rounds_are_few_points(site):
    points = held_out(rounds(site, 150, n=100, new=7, noise=False))
    n, score, weight = np.array(points).T
    assert len(points) == BINS and sum(weight) == 700 and max(weight) - min(weight) <= 7
    assert abs(score - (0.9 - 0.4 * np.exp(-n / 150))).max() < 0.01


def test_how_many_more_answers_would_matter(site):
    told = outlook(rounds(site, 150, noise=False))
    found = re.search(
        r"little: 95 % of the gain was made after about (\d+) \[\d+, \d+\] of 800\. .* foretells 90 % \[", told
    )
    assert found and abs(int(found[1]) - 150 * np.log(20)) < 30, told
    told = outlook(rounds(site, 300, noise=False, run="slow"))
    found = re.search(r"^About (\d+) more answers \[(\d+), (\d+)\] would make 95 % of what can be gained", told)
    assert found and abs(int(found[1]) - (300 * np.log(20) - 800)) < 40, told
    assert int(found[2]) <= int(found[1]) <= int(found[3])


def test_where_it_cannot_be_told_it_says_so(site):
    short, still = rounds(site, 150, n=3, run="short"), rounds(site, 3000, noise=False, run="still")
    assert outlook(short) == "Cannot tell yet: the reward was tried on new answers 3 times; 4 are the least."
    assert outlook(still).startswith("Cannot tell yet: the scores still rise at 7")
    assert outlook(rounds(site, 1e9, run="flat")).startswith("Cannot tell yet: ")
    loose = [outlook(rounds(site, 150, n=8, seed=seed, run=f"loose{seed}")) for seed in range(12)]
    assert any(
        re.search(r"with so much scatter, 95 % of the gain may take \d+ answers or \d+\.$", told) for told in loose
    )
    assert not any("[0 %, 100 %]" in told for told in loose)


def test_a_curve_is_within_its_box_and_told_in_words():
    drawn = curve("Return", [(10.0 * i, float(i % 7)) for i in range(1000)])
    points = [tuple(map(float, point.split(","))) for point in drawn.points.split()]
    assert len(points) == 200 and points[0][0] == 0 and points[-1][0] == 320
    assert min(y for _, y in points) == 0 and max(y for _, y in points) == 96
    assert drawn.told == "Return from 0 at 0 answers to 5 at 9990; lowest 0, highest 6"
    assert (
        curve("Return", [(1.0, 1.0)]) is None
        and curve("Return", [(1.0, 1.0), (1.0, 1.0)]).points == "0.0,96.0 0.0,96.0"
    )


def test_a_learner_tells_over_http(served):
    token = people.invite(served.site.store, "learner", "learner")
    client = Client(served.url, token)
    client.progress("cups", 3, {"answers": 10, "return": None, "accuracy": 0.75})
    (one,) = progress(served.site.store)["cups"]
    assert (one.step, one.figures) == (3, {"answers": 10, "accuracy": 0.75})
    with pytest.raises(ClientError, match="run 'cups' tells no answers at step 4; give how many"):
        client.progress("cups", 4, {})
    with pytest.raises(ClientError, match="refused"):
        client.progress("cups", 4, {f"x{i}": 0.0 for i in range(51)})
    with pytest.raises(ClientError, match="you are invited as annotator"):
        Client(served.url, people.invite(served.site.store, "ann")).progress("cups", 4, {"answers": 1})


def owners_page(site):
    token = people.invite(site.store, "me", "owner")
    browser = TestClient(create_app(site), headers={"X-Rapport": "1"})
    assert browser.post("/api/session", json={"token": token}).status_code == 204
    return browser.get("/owner").text


def test_the_owner_sees_curves_that_a_screen_reader_can_tell(site):
    rounds(site, 150, run="<b>cups</b> & co")
    put_progress(site.store, "new", 0, {"answers": 5})
    page = owners_page(site)
    assert "<b>" not in page and "Training new" in page and "tried on new answers 0 times" in page
    assert "style=" not in page, "a policy of ours forbids it"
    drawn = [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert [svg.find("title").text.split(" over")[0] for svg in drawn] == ["Share of new answers foretold", "Return"]
    for svg in drawn:
        assert svg.get("role") == "img"
        assert svg.get("aria-labelledby").split() == [svg.find("title").get("id"), svg.find("desc").get("id")]
    tables = [part.partition("</table>")[0].count("<tr>") for part in page.split("As a table")[1:]]
    assert tables == [2, 41]
    assert "loss" in page and "800" in page


def test_an_empty_study_shows_no_training(site):
    assert "Training" not in owners_page(site) and training(site.store) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_can_be_seen(browser, served, scheme):
    """Drawn within the page on a phone too, in a colour that differs from the ground; the policy refuses nothing."""
    rounds(served.site, 150)
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{served.url}/owner#{people.invite(served.site.store, 'me', 'owner')}")
    page.wait_for_selector(".curves svg")
    colours = page.evaluate(
        "() => [getComputedStyle(document.querySelector('.curves .line')).stroke, "
        "getComputedStyle(document.body).backgroundColor]"
    )
    assert colours == (
        ["rgb(11, 87, 208)", "rgb(251, 250, 248)"] if scheme == "light" else ["rgb(138, 180, 248)", "rgb(22, 24, 27)"]
    )
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page.click("summary")
    page.locator(".curves").scroll_into_view_if_needed()
    shot(page, f"training-{scheme}")
    assert page.locator(".run table").is_visible() and not [text for text in said if "Security" in text]
    context.close()
