"""An alignment: what was planted is found, stopped and gone on with it is the same, and nonsense is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from embodied import methods as m
from embodied.checkpoint import load
from embodied.episodes import Episode, cut
from embodied.records import Answer, Choose, Compare, Grade, Marks, Query, Rank, Skip
from envs.delivery import board
from policies.export import export, load_policy
from policies.gaussian import GaussianPolicy
from rapport import cli
from rapport.align.aligning import Settings, align
from rapport.align.answers import read
from rapport.align.looks import Look, moved
from rapport.align.methods import METHODS, coefficients, method_of
from rapport.cup.handover import agreed, cartesian
from rapport.data_folder import open_folder
from rapport.explain.planted import person, save
from rapport.run import RunError

TINY = Settings(steps=8, chunk=4, imitate=4, batch=16)
EXTRA = {"f_dpo": ("kind=js",)}


def make(folder, n=40, *, obs_size=3, act_size=2, answer=None, lengths=(6, 6), one_start=True, segments=2):
    """Pairs from one start; whoever answers likes the first number of the action to be large."""
    draw = np.random.default_rng(0)
    with open_folder(folder, make=True) as store:
        queries, answers = [], []
        for i in range(n):
            episodes = []
            first = draw.normal(size=obs_size)
            for k in range(segments):
                steps = lengths[k % 2]
                obs = draw.normal(size=(steps, obs_size))
                if one_start:
                    obs[0] = first
                act = draw.uniform(-0.9, 0.9, (steps, act_size))
                episodes.append(Episode(f"e{i}-{k}", obs, act, terminated=True))
            store.episodes.save(episodes)
            liked = [e.act[:, 0].mean() for e in episodes]
            value = answer(liked) if answer else Compare(float(liked[0] > liked[1]))
            kind = {Compare: "compare", Grade: "grade", Rank: "rank", Choose: "choose", Skip: "compare", Marks: "mark"}
            shown = episodes[:1] if isinstance(value, Marks) else episodes
            clips = tuple(cut(e, 0, len(e)) for e in shown)
            queries.append(Query(f"q{i}", clips, kind[type(value)]))
            answers.append(Answer(f"a{i}", f"q{i}", f"ann{i % 2}", "person", value))
        store.add_queries(queries)
        store.add_answers(answers)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp("align") / "data")


def test_the_command_line_names_every_method_there_is():
    named = get_args(get_type_hints(cli.Align, include_extras=True)["method"])
    assert set(named) == set(METHODS)
    made = {name for name, f in vars(m).items() if getattr(f, "__annotations__", {}).get("return") is m.Method}
    assert made == set(METHODS)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "orpo"])
def test_every_method_runs_and_ends_in_figures(name, data, tmp_path):
    result = align(data, tmp_path, replace(TINY, method=name, set=EXTRA.get(name, ())))
    assert result["rows"] == {"learned": 32, "held_out": 8}
    for when in ("before", "after"):
        for look in result[when].values():
            assert all(np.isfinite(value) for value in look.values())
    assert set(result["reliability"]) == ({"ann0", "ann1"} if name == "em_preference" else set())
    assert (tmp_path / "policy" / "policy.safetensors").exists()


def test_what_people_like_is_learned_and_foretold(tmp_path):
    data = make(tmp_path / "data", 200)
    result = align(data, tmp_path / "run", replace(TINY, method="dpo", set=("beta=.5",), steps=150, imitate=100))
    assert result["after"]["held_out"]["agreement"] > 0.8
    assert result["after"]["learned"]["loss"] < result["before"]["learned"]["loss"]
    assert result["before"]["learned"]["loss"] == pytest.approx(np.log(2), abs=1e-5)  # against itself
    assert result["before"]["learned"]["kl"] == pytest.approx(0, abs=1e-6)
    assert result["after"]["learned"]["kl"] > 0.01
    policy = GaussianPolicy(3, 2, seed=0)
    before = GaussianPolicy(3, 2, seed=0)
    load(tmp_path / "run" / "before", policy=before)
    load(tmp_path / "run" / "checkpoints", policy=policy)
    obs = np.random.default_rng(5).normal(size=(200, 3))
    assert (policy.act(obs)[:, 0] - before.act(obs)[:, 0]).mean() > 0.1
    kept = load_file(tmp_path / "run" / "policy" / "policy.safetensors")
    assert torch.equal(kept["weights.0"], policy.weights[0])


@pytest.mark.parametrize("name", ["dpo", "em_preference"])
def test_stopped_and_started_again_it_ends_the_same(name, data, tmp_path):
    settings = replace(TINY, method=name, steps=60, chunk=20)
    whole = align(data, tmp_path / "whole", settings)

    class Stop(Exception): ...

    def stop(done):
        if done == 20:
            raise Stop

    with pytest.raises(Stop):
        align(data, tmp_path / "part", settings, progress=stop)
    seen = []
    part = align(data, tmp_path / "part", settings, progress=seen.append)
    assert seen == [20, 40, 60] and part == whole
    for file in ("policy/policy.safetensors", "losses.json", "result.json"):
        assert (tmp_path / "part" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    with pytest.raises(RunError, match="seed is 0 there and 1 here"):
        align(data, tmp_path / "whole", replace(settings, seed=1))


@pytest.fixture
def exported(tmp_path):
    policy = GaussianPolicy(26, 5, seed=3, hidden=(16, 16))
    with torch.no_grad():
        policy.weights[-1].mul_(30)
    old = replace(agreed("hurry"), mean=tuple(0.1 * i for i in range(26)), std=tuple(1 + 0.1 * i for i in range(26)))
    export(tmp_path / "old", policy.layers(), cartesian(), old)
    return tmp_path / "old"


def test_an_exported_policy_is_aligned_and_exported_again(exported, tmp_path):
    data = make(tmp_path / "data", obs_size=26, act_size=5)
    # A rate so small that nothing moves: what is written out is what was read.
    still = replace(TINY, method="ipo", imitate=None, rate=1e-12)
    result = align(data, tmp_path / "still", still, str(exported))
    old, new = load_policy(exported), load_policy(tmp_path / "still" / "policy")
    obs = np.random.default_rng(1).normal(size=(50, 26))
    np.testing.assert_allclose(new.act(obs), old.act(obs), atol=1e-5)
    assert new.contract.reward == "aligned by ipo with 40 answers; before that: hurry"
    assert replace(new.contract, reward="hurry", hashes=old.contract.hashes) == old.contract
    assert new.contract.hashes != old.contract.hashes
    assert result["after"]["learned"]["kl"] == pytest.approx(0, abs=1e-6)
    align(data, tmp_path / "moved", replace(still, steps=100, rate=1e-2), str(exported))
    act = load_policy(tmp_path / "moved" / "policy").act(obs)
    assert (act[:, 0] - old.act(obs)[:, 0]).mean() > 0.05


def test_an_exported_policy_of_another_size_is_refused(exported, data, tmp_path):
    with pytest.raises(ValueError, match="acts with 5 numbers on 26, and the answers are about segments with 2 on 3"):
        align(data, tmp_path / "run", TINY, str(exported))
    assert not (tmp_path / "run").exists()


def test_held_out_clips_are_never_learned_from(tmp_path):
    data = make(tmp_path / "data", 20)
    with open_folder(data) as store:  # the same clips once more, the other way round
        again = [Query(f"again-{q.id}", tuple(reversed(q.segments))) for q in store.queries()]
        store.add_queries(again)
        store.add_answers([Answer(f"again-{i}", q.id, "ann", "person", Compare(1.0)) for i, q in enumerate(again)])
    told = read(data, 0, listwise=False)
    (learned,), (held_out,) = told.learned, told.held_out
    assert (len(learned), len(held_out)) == (32, 8)

    def clips(part):
        return {clip.numpy().tobytes() for row in part.segments.act for clip in row}

    assert not clips(learned) & clips(held_out)


@pytest.mark.parametrize(
    ("answer", "segments", "listwise", "shape"),
    [
        (lambda v: Rank(tuple(int(k) for k in np.argsort(v)[::-1])), 4, True, (8, 4)),
        (lambda v: Rank(tuple(int(k) for k in np.argsort(v)[::-1])), 4, False, (48, 2)),
        (lambda v: Choose(int(np.argmax(v))), 4, True, (24, 2)),
        (lambda v: Grade(2 if v[0] > v[1] else -2), 2, False, (8, 2)),
    ],
)
def test_rankings_stay_whole_or_become_pairs(answer, segments, listwise, shape, tmp_path):
    told = read(make(tmp_path / "data", 10, answer=answer, segments=segments), 0, listwise=listwise)
    (learned,) = told.learned
    assert tuple(learned.target.shape) == shape
    liked = learned.segments.act[..., 0].mean(-1)
    assert (liked.argmax(-1) == learned.target.argmax(-1)).all()


def test_what_nothing_can_be_learned_from_is_told(tmp_path):
    ties = make(tmp_path / "ties", 10, answer=lambda v: Compare(0.5))
    with pytest.raises(ValueError, match="all 8 comparisons to learn from are ties"):
        read(ties, 0, listwise=False)
    skips = make(tmp_path / "skips", 10, answer=lambda v: Skip("no"))
    with pytest.raises(ValueError, match="no comparison or ranking was answered"):
        read(skips, 0, listwise=False)
    marks = make(tmp_path / "marks", 10, answer=lambda v: Marks(((0, 2, True),)))
    with pytest.raises(ValueError, match="no comparison or ranking was answered"):
        read(marks, 0, listwise=False)
    same = read(make(tmp_path / "same", 10, answer=lambda v: Compare(1.0)), 0, listwise=False)
    assert "all 10 answers are the same" in same.notes[0]
    few = read(make(tmp_path / "few", 3), 0, listwise=False)
    assert not few.held_out and "too few questions" in few.notes[0]


def rapport(*args):
    return cli.main(["align", *map(str, args)])


def test_what_a_method_is_not_for_is_refused_with_the_mend(data, tmp_path, capsys):
    apart = make(tmp_path / "apart", one_start=False)
    assert rapport("--data", apart, "--out", tmp_path / "a", "--steps", 4, "--imitate", 1) == 2
    said = capsys.readouterr().err
    assert "32 of 32 rows compare segments from different starts, and dpo is for one start" in said
    assert "--any-start" in said and "replace(" not in said
    assert rapport("--data", apart, "--out", tmp_path / "a2", "--steps", 4, "--imitate", 1, "--any-start") == 0
    assert rapport("--data", apart, "--out", tmp_path / "b", "--steps", 4, "--imitate", 1, "--method", "cpl") == 0
    assert "cpl on 32 comparisons, 8 held out" in capsys.readouterr().out
    uneven = make(tmp_path / "uneven", lengths=(6, 4))
    assert rapport("--data", uneven, "--out", tmp_path / "c", "--steps", 4, "--imitate", 1, "--method", "cpl") == 2
    assert "compares [6, 4] steps, and cpl adds up log-densities" in capsys.readouterr().err
    assert rapport("--data", data, "--out", tmp_path / "d", "--method", "orpo") == 2
    assert "orpo needs 1 - p of an action" in capsys.readouterr().err
    assert rapport("--data", data, "--policy", "nowhere") == 2
    assert "There is no folder nowhere: give one with contract.json" in capsys.readouterr().err
    assert rapport("--data", data, "--bounds", "-0.1", "0.1") == 2
    assert "outside [-0.1, 0.1]: set --bounds LOW HIGH" in capsys.readouterr().err
    choices = tmp_path / "choices"
    with open_folder(choices, make=True) as store:
        save(store, board(), {"ann": person(board(), "regret", 40, 1)})
    assert rapport("--data", choices, "--method", "cpl", "--bounds", "0", "3") == 2
    assert "All actions are whole numbers, 0 to 3, so they are choices" in capsys.readouterr().err


def test_the_command_leaves_a_report_and_one_object(data, tmp_path, capsys):
    args = ("--data", data, "--out", tmp_path / "run", "--steps", 4, "--imitate", 1, "--json")
    assert rapport(*args) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "run" / "result.json").read_text())
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Aligned with 40 answers" in page and found["moved"].split("(")[0] in page
    assert rapport(*args) == 0  # finished: says the same again
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("dpo", ("gamma=1",), r"dpo can be told beta \(0.1\), as in --set beta="),
        ("dpo", ("beta=much",), "--set beta=much: give a number after the ="),
        ("dpo", ("beta",), "--set beta: dpo can be told"),
        ("dpo", ("beta=-1",), "beta is -1.0; give a finite number above 0"),
        ("f_dpo", (), "f_dpo has to be told kind: --set kind=js"),
        ("f_dpo", ("kind=x",), "no f-divergence 'x'"),
        ("dense_dpo", ("window=1.5",), "--set window=1.5: give a whole number"),
    ],
)
def test_a_wrong_coefficient_is_told(name, settings, told):
    with pytest.raises(ValueError, match=told):
        method_of(name, settings)


def test_coefficients_are_those_of_the_method():
    assert coefficients("cpl") == {"alpha": 0.1, "bias": 0.5, "gamma": 1.0}
    assert coefficients("em_preference") == {"beta": 0.1}
    method, em = method_of("em_preference", ("beta=.3",))
    assert em is not None and method.label_model is em
    score = torch.tensor([[2.0, 0.0]])
    target = torch.tensor([[1.0, 0.0]])
    assert method.loss(score, target).item() == pytest.approx(np.log1p(np.exp(-0.6)))


OWN = """
import torch
from torch import nn


class Own(nn.Module):
    density = True

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(3, 2)

    def log_prob(self, segments):
        return -((segments.act - self.net(segments.obs)) ** 2).sum(-1)


class Half(Own):
    def log_prob(self, segments):
        return super().log_prob(segments).half()


class Blunt(Own):
    def log_prob(self, segments):
        return super().log_prob(segments).sum(-1)


class Frozen(Own):
    def log_prob(self, segments):
        return super().log_prob(segments).detach()


class Other(Own):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)


def nothing():
    return 3


def broken():
    raise KeyError("weights")
"""


def test_a_policy_of_ones_own_is_aligned(data, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    settings = replace(TINY, method="dpo", imitate=None, steps=40)
    result = align(data, tmp_path / "run", settings, f"{file}:Own")
    assert result["after"]["learned"]["kl"] is None  # it has no kl
    assert result["after"]["learned"]["loss"] < result["before"]["learned"]["loss"]
    kept = load_file(tmp_path / "run" / "policy" / "policy.safetensors")
    net = nn.Linear(3, 2)
    net.load_state_dict({name.removeprefix("net."): value for name, value in kept.items()})
    with pytest.raises(ValueError, match=r"has no kl\(reference, segments\)"):
        align(data, tmp_path / "kto", replace(settings, method="kto"), f"{file}:Own")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Half", "is float16, in which differences .* make the policy float32"),
        ("Blunt", r"gave \[2, 2\]: give one number per step, \[2, 2, 6\]"),
        ("Frozen", "does not depend on its parameters"),
        ("Other", r"cannot take obs and act \[\[2, 2, 6, 3\], \[2, 2, 6, 2\]\] \(RuntimeError"),
        ("nothing", "made 3: give a torch.nn.Module"),
        ("broken", r"made no policy \(KeyError: 'weights'\): mend it"),
        ("missing", "has no missing: name a function that makes the policy"),
    ],
)
def test_a_policy_that_is_none_is_refused(name, told, data, tmp_path):
    file = Path(tmp_path / "mine.py")
    file.write_text(OWN)
    with pytest.raises(ValueError, match=told):
        align(data, tmp_path / "run", TINY, f"{file}:{name}")


def test_what_became_of_both_is_said_in_a_sentence():
    was = Look(0.7, 0.5, 10, -1.0, -1.0, 0.0)

    def now(chosen, rejected):
        return moved(was, replace(was, chosen=chosen, rejected=rejected))

    assert now(-2, -4).startswith("Both became less likely (preferred -1 nats a step, the other -3)")
    assert now(0, -2).startswith("What was preferred became more likely, the other less")
    assert now(1, 0).startswith("Both became more likely")
    assert now(-2, 0).startswith("What was preferred became less likely, and the other more")
