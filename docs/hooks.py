"""What the site needs beyond its pages: a reference page for every public module, and no request to another host.

mkdocs calls the functions by their names (its documentation, "Hooks"); mkdocstrings loads `Prose`.
"""

import ast
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PACKAGES = ("embodied", "policies", "human_ui", "hardware", "llm_bridge", "envs")
INSIDES = re.compile(r"\b_|\.arm_")  # the parts of an arm are reached through it
FOREIGN = re.compile(
    r'<(?:script|img|iframe|source|video)\b[^>]*\ssrc="(?:https?:)?//[^>]*'
    r'|<link\b(?![^>]*rel="canonical")[^>]*\shref="(?:https?:)?//[^>]*'
    r'|<pre class="mermaid"'
)


def modules(package: str) -> dict[str, Path]:
    """The public modules of a package by their dotted names."""
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return {name: file for name, file in zip(names, files, strict=True) if not INSIDES.search(name)}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the modules under their packages into the navigation."""
    pages: list[Any] = ["reference/index.md"]
    for package in PACKAGES:
        pages.append({package: [{name.partition(".")[2]: f"reference/{name}.md"} for name in modules(package)]})
    for entry in config.nav or []:
        if "API reference" in entry:
            entry["API reference"] = pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Writes one page for each module, and a table of them all."""
    table = ["# API reference", "", "What is not here is private and may change without a word."]
    for package in PACKAGES:
        table += ["", f"## {package}", "", "| module | what it is |", "| --- | --- |"]
        for name, file in modules(package).items():
            said = ast.get_docstring(ast.parse(file.read_text())) or ""
            first = re.split(r"(?<=\w\.)\s", said, maxsplit=1)[0]
            table.append(f"| [{name}]({name}.md) | {plain(' '.join(first.split())).replace('|', '&#124;')} |")
            files.append(File.generated(config, f"reference/{name}.md", content=f"::: {name}\n"))
    files.append(File.generated(config, "reference/index.md", content="\n".join(table) + "\n"))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Raises PluginError when the page would load something from another host; mkdocs then stops."""
    for tag in foreign(output):
        raise PluginError(f"{page.file.src_uri} would load from another host: {tag}; keep a copy under docs/")
    return output


def foreign(html: str) -> list[str]:
    """The tags that make a browser ask another host; a diagram is one, since the theme fetches what draws it."""
    return [found[0] for found in FOREIGN.finditer(html)]


def plain(text: str) -> str:
    """Prose as Markdown that shows it as it is: outside of `code` a star is a star and a bracket a bracket."""
    parts = re.split(r"(`[^`]*`)", text)
    prose = (re.sub(r"([*_\[\]])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2])
    return "".join(part for pair in zip(prose, [*parts[1::2], ""], strict=True) for part in pair)


class Prose(griffe.Extension):
    """Docstrings are prose with shapes such as [B,K,T,*O] in it; Markdown would take the stars for emphasis."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = plain(obj.docstring.value)
