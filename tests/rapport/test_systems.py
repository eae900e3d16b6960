import json
from pathlib import Path

import pytest

import rapport
from rapport.cli import main
from rapport.systems import SYSTEMS, domains_of

# Typed again, in order: a key is a promise to scripts, and dropping or renaming one has to be meant.
KEYS = {
    "A. The spine (embodied)": "rapl regret cpl basalt prefrl survey pebble",
    "B. People differ": "vpl maxmin more dpa meet lcpo crm hybrid prism trilemma",
    "C. Safety": "hcrlhf saferlhfv",
    "D. Direct and listwise losses": "daa pro gapo rlhfv cxr pedagogical entangle ddascale onoff",
    "E. Online, game-theoretic and filtering algorithms": (
        "p3o nash ipomd egpo sppo apo raft superhf phf bai ama klcf ceiling"
    ),
    "F. Diffusion and flow policies": "ddpo videoalign animereward seppo distar rlg",
    "G. Preference data and judges": "fifa isa wimhf oasst pika cyclealign selfalign salmon rlbff",
}


def test_the_table_has_every_system_in_its_room() -> None:
    assert [(s.room, s.key) for s in SYSTEMS] == [(room, key) for room, keys in KEYS.items() for key in keys.split()]
    assert len(SYSTEMS) == 56
    assert all(s.title and s.spec for s in SYSTEMS)


def test_a_system_works_if_and_only_if_it_has_a_reproduction() -> None:
    files = (Path(rapport.__file__).parent / "reproduce").glob("*.py")
    reproductions = {file.stem for file in files} - {"__init__"}
    assert {s.key for s in SYSTEMS if s.state == "working"} == reproductions
    assert all(bool(s.domains) == (s.state == "working") for s in SYSTEMS)


def test_domains_are_read_from_the_reproduction(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    assert domains_of(file) == ()
    file.write_text("import no_such_module\nDOMAINS = ('point', 'arm')\n")
    assert domains_of(file) == ("point", "arm")
    file.write_text("DOMAINS: tuple[str, ...] = ('point',)\n")
    assert domains_of(file) == ("point",)
    file.write_text("pass\n")
    with pytest.raises(ValueError, match=r"some\.py names no domain; give it a DOMAINS"):
        domains_of(file)


def test_methods_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    positions = [printed.index(text) for s in SYSTEMS for text in (s.room, f"  {s.key} ", s.title)]
    rows = positions[1::3]
    assert rows == sorted(rows)
    working = sum(s.state == "working" for s in SYSTEMS)
    assert f"{working} of 56 work" in printed


def test_methods_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["key"] for row in rows] == [s.key for s in SYSTEMS]
    for row, system in zip(rows, SYSTEMS, strict=True):
        assert row == {
            "key": system.key,
            "title": system.title,
            "room": system.room,
            "domains": list(system.domains),
            "spec": system.spec,
            "state": system.state,
        }
