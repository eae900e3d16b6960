"""Studies to be taken along: random ones with all that can happen, and one whose every row is known."""

import json

import numpy as np
from hypothesis import strategies as st

from embodied.episodes import Episode, Episodes, cut
from embodied.records import KINDS, Answer, Query, RecordError, check_answer
from embodied.store import Store
from human_ui import desk, people, returns, tables
from human_ui.study import Study
from tests.embodied.test_records import VALUES

STEPS, EPISODES, PEOPLE = 102, 4, ("ann", "bob", "p1", "Zoë")
STUDIES = [Study("Cups"), Study("Cups", "Which one is safer?"), Study("Mugs ”", want=3)]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXT, part, max_size=3),
    max_leaves=4,
)
TOLD = st.fixed_dictionaries(
    {},
    optional={
        "ms": st.integers(0, 10_000) | JSON,
        "seen": st.lists(st.integers(0, 5000) | st.none(), max_size=3) | JSON,
        "early": st.booleans() | JSON,
        "note": TEXT | JSON,
        "other": JSON,
    },
)


def segments(folder, k):
    """k segments of the folder's episodes."""
    rng = np.random.default_rng(0)
    made = [Episode(f"e{i}", rng.normal(size=(STEPS, 2)), rng.normal(size=(STEPS, 1))) for i in range(EPISODES)]
    Episodes(folder).save(made)
    return [cut(made[i % EPISODES], i % 3, i % 3 + 99) for i in range(k)]


def fitting(value):
    """The kinds of questions, with their number of segments, that this value can answer."""
    found = []
    for kind in KINDS:
        for k in range(1, 9):
            try:
                query = Query("q", tuple(_PARTS[:k]), kind)
                check_answer(Answer("a", "q", "ann", "person", value), query)
            except RecordError:
                continue
            found.append((kind, k))
    return found


_episode = Episode("e", np.zeros((STEPS, 1)), np.zeros((STEPS, 1)))
_PARTS = [cut(_episode, 0, 99) for _ in range(9)]


@st.composite
def steps(draw):
    """What happens in a study, in order."""
    happened = []
    for i in range(draw(st.integers(1, 8))):
        value = draw(VALUES)
        kind, k = draw(st.sampled_from(fitting(value)))
        happened.append(
            {
                "query": f"q{i}",
                "kind": kind,
                "k": k,
                "context": draw(st.sampled_from(["", "", "Which holds the cup better?"])),
                "anchor": draw(st.booleans()),
                "gold": draw(st.none() | st.just(value)),
                "offered": draw(st.booleans()),
                "priority": draw(st.floats(-3, 3)),
                "answers": [
                    {
                        "person": draw(st.sampled_from(PEOPLE)),
                        "value": value,
                        "study": draw(st.integers(0, len(STUDIES) - 1)),
                        "told": draw(TOLD),
                        "late": draw(st.booleans()),
                        "again": draw(st.none() | TOLD),
                    }
                    for _ in range(draw(st.integers(0, 3)))
                ],
            }
        )
    return happened, draw(st.none() | st.sampled_from(PEOPLE))


def build(folder, happened, erased=None):
    """A study in which this happened."""
    rng = np.random.default_rng(1)
    with Store(folder / "answers.sqlite", Episodes(folder / "episodes")) as store:
        store.write(tables.create)
        for name in PEOPLE:
            people.invite(store, name)
        parts = segments(folder / "episodes", 9)
        for i, one in enumerate(happened):
            anchor = parts[8] if one["anchor"] else None
            query = Query(one["query"], tuple(parts[: one["k"]]), one["kind"], one["context"], anchor)
            if not one["offered"]:
                store.add_queries([query])
                store.add_answers(
                    Answer(f"t{i}", query.id, "teacher", "teacher", a["value"]) for a in one["answers"][:1]
                )
                continue
            clips = [f"{i:032x}{j:032x}" for j in range(one["k"] + one["anchor"])]
            truth = None if one["gold"] is None else {query.id: one["gold"]}
            desk.offer(store, [query], {query.id: clips}, want=4, priority=one["priority"], truth=truth)
            for j, said in enumerate(one["answers"]):
                _say(store, f"a{i}-{j}", query.id, said, rng)
        if store.answers():
            store.log_cursor("reward", 3, store.last_seq())
        if erased is not None:
            people.erase(store, erased)
    return folder


def _say(store, id, query, said, rng):
    study = STUDIES[said["study"]]
    desk.begin(store, study, 7.0)
    lent = [one for one in desk.lend(store, study, said["person"], 8, 0.0, rng) if one.query == query]
    if lent:
        if said["late"]:
            returns.give_back(store, said["person"])
        lease = lent[0].lease
        try:
            desk.take(store, said["person"], lease, id, said["value"], said["told"], "", 1.0)
        except RecordError:  # in the order in which it was shown it fits no more
            return
        if said["again"] is not None:
            desk.take(store, said["person"], lease, f"{id}-r", said["value"], said["again"], id, 2.0)
    returns.give_back(store, said["person"])


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
