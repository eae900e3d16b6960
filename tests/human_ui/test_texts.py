"""Texts in a study: offered once, kept as clips are, and files that make no sense are named with their line."""

import json

import pytest

from embodied.texts import text_of
from human_ui.clips import MAX_BYTES, TEXT, ClipError
from human_ui.study import StudyError
from human_ui.texts import Texts, offer, read


def test_the_same_texts_are_one_question(site):
    first = offer(site, [Texts("Name a colour.", ("Blue", "Red"))])
    assert [q.id for q in offer(site, [Texts("Name a colour.", ("Blue", "Red"))])] == [first[0].id]
    assert [q.id for q in site.store.queries()] == [first[0].id]
    (query,) = site.store.queries()
    assert [text_of(s) for s in query.segments] == ["Blue", "Red"] and query.context == "Name a colour."


def test_a_text_is_lent_as_its_bytes_and_its_prompt(site):
    offer(site, [Texts("", ("", "é\n" * 3), "compare"), Texts("Pick.", ("a", "b", "c"), "rank")])
    with site.store.read() as connection:
        shas = json.loads(connection.exec_driver_sql("select clips from offer").scalars().first())
    assert [site.clips.info(s).media_type for s in shas] == [TEXT, TEXT]
    assert sorted(site.clips.get(s).decode() for s in shas) == ["", "é\n" * 3]


def test_a_text_that_is_too_long_is_refused(site):
    with pytest.raises(ClipError, match=f"a text has {MAX_BYTES + 1} bytes; give at most 1,048,576"):
        site.clips.put_text("x" * (MAX_BYTES + 1))


def test_files_of_texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"prompt": "p", "answers": ["a", "b"]}\n\n{"prompt": "", "answers": ["x"], "kind": "rate"}\n')
    assert list(read(path)) == [Texts("p", ("a", "b")), Texts("", ("x",), "rate")]
    for line in ("{", "[]", '{"prompt": "p"}', '{"prompt": "p", "answers": [1]}', '{"prompt": 1, "answers": []}'):
        path.write_text(f'{{"prompt": "p", "answers": ["a", "b"]}}\n{line}\n')
        with pytest.raises(StudyError, match=r"texts\.jsonl, line 2: "):
            list(read(path))
    with pytest.raises(StudyError, match="cannot be read"):
        list(read(tmp_path / "none.jsonl"))


def test_texts_with_other_ends_of_lines_and_kinds_that_need_a_clock(tmp_path):
    path = tmp_path / "texts.jsonl"
    line = json.dumps({"prompt": "p", "answers": ["one\u2028two", "x\u0085y"]}, ensure_ascii=False)
    path.write_text(line, encoding="utf-8")
    assert list(read(path)) == [Texts("p", ("one\u2028two", "x\u0085y"))]
    for given, sentence in [
        ({"prompt": "p", "answers": ["a"], "kind": "stop"}, "line 1: texts cannot be asked about in kind 'stop'"),
        ({"prompt": "p", "answers": ["a"]}, "line 1: 1 answers in kind 'compare'; give 2 to 2"),
    ]:
        path.write_text(json.dumps(given))
        with pytest.raises(StudyError, match=sentence):
            list(read(path))
