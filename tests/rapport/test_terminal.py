"""`--ask`: a person at the keyboard, in a script; the store is a real one."""

from contextlib import contextmanager

import pytest

from embodied.feedback import Budget, feedback
from embodied.records import Compare, Skip
from rapport.cup.terminal import ANNOTATOR, asker
from rapport.cup.train import Settings, open_store, train


class Keys:
    """Types one key per prompt, and keeps the prompts. After the last key, stdin is at its end."""

    def __init__(self, keys):
        self.left, self.prompts = list(keys), []

    def __call__(self, prompt):
        self.prompts.append(prompt)
        if not self.left:
            raise EOFError
        return self.left.pop(0)


def files(batch, folder):
    """What a question's clip will be called; drawing it is another matter."""
    return {query.id: folder / f"{query.id}.mp4" for query in batch}


@contextmanager
def study(tiny_run, folder):
    """A new store with the first questions of a run, not answered yet."""
    with open_store(tiny_run) as (theirs, episodes):
        queries = theirs.queries()[:5]
        needed = {segment.episode for query in queries for segment in query.segments}
        kept = [episodes.load(id) for id in sorted(needed)]
    with open_store(folder) as (store, mine):
        mine.save(kept)
        store.add_queries(queries)
        yield store, queries


def ask(store, queries, folder, keys):
    typed = Keys(keys)
    asker(store, folder, lambda: None, typed, files)(queries)
    return typed


def test_each_key_is_an_answer(tiny_run, tmp_path, capsys):
    with study(tiny_run, tmp_path) as (store, queries):
        typed = ask(store, queries[:4], tmp_path, ["1", " 2", "0", "X "])
        answers = store.answers()
    assert [a.query for a in answers] == [q.id for q in queries[:4]]
    assert [a.value for a in answers] == [Compare(1.0), Compare(0.0), Compare(0.5), Skip("cannot tell")]
    assert {(a.annotator, a.source) for a in answers} == {(ANNOTATOR, "person")}
    assert [p.split(":")[0] for p in typed.prompts] == ["1", "2", "3", "4"]
    assert all(f"{q.id}.mp4" in p for q, p in zip(queries, typed.prompts, strict=False))
    assert "1 left is better   2 right is better" in capsys.readouterr().out


def test_other_keys_are_no_answers(tiny_run, tmp_path, capsys):
    with study(tiny_run, tmp_path) as (store, queries):
        ask(store, queries[:1], tmp_path, ["3", "", "left", "1"])
        assert [a.value for a in store.answers()] == [Compare(1.0)]
    out = capsys.readouterr().out
    assert all(f"{key!r} is no answer." in out for key in ("3", "", "left"))


def test_undo_supersedes_the_answer_before(tiny_run, tmp_path, capsys):
    with study(tiny_run, tmp_path) as (store, queries):
        typed = ask(store, queries[:2], tmp_path, ["z", "1", "z", "2", "2"])
        first, again, last = store.answers()
        data, budget = feedback(store.answers(), store.queries())
    assert "Nothing to undo in this batch." in capsys.readouterr().out
    assert again.supersedes == first.id and not first.supersedes and not last.supersedes
    assert (first.value, again.value) == (Compare(1.0), Compare(0.0)) and first.query == again.query
    assert data.target[:, 0].tolist() == [0.0, 0.0]
    assert (budget.answered, budget.revised, budget.duplicates) == (2, 1, 0)
    assert [p.split(":")[0] for p in typed.prompts] == ["1", "1", "2", "1", "2"]


def test_undo_twice_revises_the_revision(tiny_run, tmp_path):
    with study(tiny_run, tmp_path) as (store, queries):
        ask(store, queries[:2], tmp_path, ["1", "z", "2", "z", "0", "1"])
        one, two, three, _ = store.answers()
        _, budget = feedback(store.answers(), store.queries())
    assert (two.supersedes, three.supersedes) == (one.id, two.id)
    assert (budget.answered, budget.ties, budget.revised) == (2, 1, 2)


@pytest.mark.parametrize("end", [["q"], []])
def test_what_is_answered_before_a_stop_is_kept(end, tiny_run, tmp_path):
    with study(tiny_run, tmp_path) as (store, queries), pytest.raises(KeyboardInterrupt):
        ask(store, queries, tmp_path, ["1", "2", *end])
    with open_store(tmp_path) as (store, _):
        assert [a.query for a in store.answers()] == [q.id for q in queries[:2]]


def test_a_run_that_was_stopped_asks_only_the_rest(tmp_path, tiny_recipe):
    settings = Settings(seed=6, answers=12, ask=True, held_out=16, recipe=tiny_recipe)
    shown = []

    def sit_down(keys):
        typed = Keys(keys)

        def render(batch, folder):
            shown.extend(query.id for query in batch)
            return files(batch, folder)

        return train(settings, tmp_path / "run", ask=lambda store: asker(store, tmp_path, lambda: None, typed, render))

    with pytest.raises(KeyboardInterrupt):
        sit_down(["1", "q"])
    with pytest.raises(KeyboardInterrupt):
        sit_down(["2", "1", "q"])
    trained = sit_down(["1", "x", *"120121", *"12"])
    with open_store(tmp_path / "run") as (store, _):
        answers = store.answers()
    assert len(answers) == len({a.query for a in answers}) == 12
    assert [a.query for a in answers] == sorted(a.query for a in answers)
    assert [shown.count(a.query) for a in answers] == [1, 2, 1, 2, 2] + [1] * 7, "only what was open is shown again"
    assert trained.rows[-1]["budget"] == vars(Budget(asked=12, answered=11, skipped=1, ties=1))
