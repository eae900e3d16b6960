"""A page in one file: no network, light and dark, wide screens and narrow. Every report is made of this.

Arguments named `content` or `parts` are HTML; plain text goes through `escape` first.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["THEME", "details", "escape", "facts", "figure", "grid", "note", "page", "section", "svg", "table", "video"]

THEME = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "before": "#040404",
    "after": "#050505",
    "good": "#060606",
    "bad": "#070707",
}
"""Stand-ins to draw with in matplotlib: `svg` turns each into the page's colour of that name, so a plot follows the
theme of the reader."""

_STYLE = """
:root { color-scheme: light dark;
  --paper: #fcfbf9; --card: #ffffff; --ink: #22252b; --muted: #6b7280; --line: #e4e2dd;
  --before: #9a9fa8; --after: #2563c9; --good: #178a5b; --bad: #c9442f; --tint: #eef3fb; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14161a; --card: #1b1e24; --ink: #e6e7ea; --muted: #9aa1ad; --line: #30343c;
  --before: #7d838e; --after: #7fb0ff; --good: #4fc490; --bad: #f07a63; --tint: #1d2634; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
h1 { font-size: clamp(1.6rem, 4vw, 2.35rem); line-height: 1.2; letter-spacing: -0.02em; font-weight: 650;
  margin: 0 0 1rem; text-wrap: balance; }
h2 { font-size: 1.25rem; letter-spacing: -0.01em; font-weight: 640; margin: 0 0 .4rem; }
h3 { font-size: .95rem; font-weight: 640; margin: 1.6rem 0 .3rem; }
section { margin-top: 3.25rem; }
p { margin: .5rem 0; max-width: 46rem; }
.eyebrow { color: var(--muted); font-size: .85rem; margin: 0 0 .6rem; }
.lead { font-size: 1.15rem; line-height: 1.5; max-width: 44rem; }
small, .muted, figcaption { color: var(--muted); }
figcaption { font-size: .86rem; line-height: 1.45; margin-top: .5rem; max-width: 46rem; }
figure { margin: 1.1rem 0 0; min-width: 0; }
figure > svg, figure > img, figure > video { display: block; width: 100%; height: auto; }
figure > img, figure > video { border-radius: 10px; background: var(--line); }
figure > svg { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
svg text { font-family: inherit !important; }
.grid { display: grid; gap: 1.1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, var(--least)), 1fr)); }
.grid > figure { margin-top: 0; }
.grid { margin-top: 1.1rem; }
.scroll { overflow-x: auto; margin: 1.1rem 0 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .5rem .9rem .5rem 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
th { font-weight: 500; color: var(--muted); font-size: .84rem; }
.number { text-align: right; white-space: nowrap; }
td small { font-size: .8rem; margin-left: .35rem; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem; margin: 1rem 0 0; font-size: .93rem;
  font-variant-numeric: tabular-nums; }
dt { color: var(--muted); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.note { background: var(--tint); border-radius: 10px; padding: .9rem 1.1rem; margin: 1.1rem 0 0; max-width: none; }
.note code { display: block; margin-top: .35rem; }
code { font: .86em ui-monospace, "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
details { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: .45rem 0; font-weight: 560; }
summary small { font-weight: 400; margin-left: .4rem; }
details[open] { padding-bottom: 1rem; }
@media (max-width: 40rem) { main { padding: 2rem 1rem 3rem; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; } }
@media print { details > * { display: block !important; } video { display: none; } }
"""


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """The whole document; `style` is more CSS, in which the colours of THEME are var(--name)."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head>\n"
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title, quote=False)}</h2>\n{chr(10).join(parts)}\n</section>"


def note(content: str) -> str:
    return f'<p class="note">{content}</p>'


def figure(content: str, caption: str = "") -> str:
    return f"<figure>{content}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"


def grid(parts: Iterable[str], least: int = 25) -> str:
    """Side by side where there is room; no part narrower than `least` rem, unless the screen is."""
    return f'<div class="grid" style="--least:{least}rem">{"".join(parts)}</div>'


def details(summary: str, *parts: str, shown: bool = False) -> str:
    """Folded away under a line that one can open."""
    return f"<details{' open' if shown else ''}><summary>{summary}</summary>{''.join(parts)}</details>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Columns whose index is in `numbers` are aligned to the right."""

    def row(cells: Sequence[str], tag: str) -> str:
        marks = [' class="number"' if i in numbers else "" for i in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{m}>{c}</{tag}>" for m, c in zip(marks, cells, strict=True)) + "</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll"><table><thead>{row(header, "th")}</thead><tbody>{body}</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they are."""
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{content}</dd>" for name, content in pairs) + "</dl>"


def video(path: Path) -> str:
    """An mp4 that plays by itself, over and over, without sound."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<video controls muted loop autoplay playsinline src="data:video/mp4;base64,{data}"></video>'


def svg(drawing: Figure, label: str) -> str:
    """A matplotlib figure as part of the page: its text is text, and the colours of THEME are the page's."""
    import matplotlib

    out = io.StringIO()
    # The salt makes the names inside the file, and so the page, the same each time.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        drawing.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(
        r'(<svg)[^>]*?(viewBox="[^"]*")[^>]*>', rf'\1 \2 role="img" aria-label="{escape(label)}">', text, count=1
    )
    for name, stand_in in THEME.items():
        text = text.replace(stand_in, f"var(--{name})")
    return re.sub(r"\n\s*", "\n", text)
