"""The papers of the house hold: links lead somewhere, commands exist, and the site asks no other host for anything."""

import html
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import markdown
import pytest
import tyro

from rapport import cli

ROOT = Path(__file__).parent.parent
PAPERS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[!.]*/README.md")]
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
GENERATED = ("reference/",)  # written by docs/hooks.py while the site is built


def name(paper: Path) -> str:
    return str(paper.relative_to(ROOT))


@pytest.mark.parametrize("paper", PAPERS, ids=name)
def test_every_link_leads_to_a_file(paper: Path) -> None:
    for target in LINK.findall(paper.read_text()):
        assert target.startswith(GENERATED) or (paper.parent / target).exists(), target


def commands(paper: Path) -> list[list[str]]:
    found = re.findall(r"^\s*\.venv/bin/rapport (.*)$", paper.read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


@pytest.mark.parametrize("paper", [paper for paper in PAPERS if commands(paper)], ids=name)
def test_every_command_is_one_that_rapport_takes(paper: Path) -> None:
    for args in commands(paper):
        try:
            tyro.cli(cli.Verb, prog="rapport", args=args, config=(tyro.conf.OmitSubcommandPrefixes,))
        except SystemExit as end:
            assert end.code == 0, args  # a help text


def test_links_and_commands_are_found_at_all() -> None:
    assert "docs/main_job.md" in LINK.findall((ROOT / "README.md").read_text())
    assert ["methods"] in commands(ROOT / "README.md")


def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "refused"),
    [
        ('<script src="https://cdn.example/a.js"></script>', True),
        ('<img alt="" src="//img.example/a.png">', True),
        ('<link rel="stylesheet" href="https://fonts.example/a.css">', True),
        ('<pre class="mermaid"><code>', True),  # the theme fetches what draws it
        ('<link rel="canonical" href="https://docs.example/">', False),
        ('<a href="https://arxiv.org/abs/2106.05091">', False),
        ('<script src="assets/a.js"></script><img src="../a.png">', False),
    ],
)
def test_what_a_page_would_load_from_another_host_is_found(page: str, refused: bool) -> None:
    found = hooks().foreign(page)
    assert bool(found) == refused


def test_prose_is_shown_as_it_was_written() -> None:
    text = "obs [B,K,T,*O], act [B,K,T,*A] of `x[0] * y`; f_divergence, a < b | c and [E,B,K] [B]: see _sum_"
    shown = markdown.markdown(hooks().plain(text))
    tags = re.findall("<[^>]*>", shown)
    assert html.unescape(re.sub("<[^>]*>", "", shown)) == text.replace("`", "")
    assert tags == ["<p>", "<code>", "</code>", "</p>"]
