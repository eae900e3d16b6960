"""The methods of direct alignment by name, and their coefficients as texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embodied import methods as m
from embodied.label_models import EM
from embodied.methods import Method

METHODS: Mapping[str, Callable[..., Method]] = {
    make.__name__: make
    for make in (
        *(m.dpo, m.f_dpo, m.cdpo, m.robust_dpo, m.length_dpo, m.dense_dpo, m.ipo, m.slic, m.kto, m.apo_zero, m.bco),
        *(m.nca, m.sppo, m.sppo_hard, m.rankings, m.pro, m.cpo, m.simpo, m.orpo, m.cpl, m.cpl_kl, m.em_preference),
    )
}
LISTWISE = ("rankings", "pro")
"""Those that hear a ranking of any length as it is; for the others it becomes pairs."""


def coefficients(name: str) -> dict[str, Any]:
    """What `--set` can set of a method, with what it is otherwise; ... where it has to be told."""
    made = METHODS[name] if name != "em_preference" else m.dpo
    found = inspect.signature(made).parameters.values()
    return {p.name: ... if p.default is p.empty else p.default for p in found if p.name != "score"}


def method_of(name: str, settings: Sequence[str]) -> tuple[Method, EM | None]:
    """The method with its coefficients, as ("beta=.2", ...); for em_preference also what it learns of annotators.

    Raises ValueError for a coefficient that the method does not have or that has no such value.
    """
    known = coefficients(name)
    given: dict[str, Any] = {}
    for setting in settings:
        key, is_there, text = setting.partition("=")
        if not is_there or key not in known:
            raise ValueError(f"--set {setting}: {name} can be told {_told(known)}, as in --set {next(iter(known))}=...")
        given[key] = _value(setting, text, known[key])
    if missing := [key for key, value in known.items() if value is ... and key not in given]:
        raise ValueError(f"{name} has to be told {missing[0]}: --set {missing[0]}=js, forward_kl or alpha")
    if name == "em_preference":
        em = EM()
        return m.em_preference(m.dpo(**given), em), em
    return METHODS[name](**given), None


def _value(setting: str, text: str, usual: Any) -> Any:
    if usual is ...:
        return text
    try:
        return int(text) if usual is None else float(text)
    except ValueError:
        kind = "a whole number" if usual is None else "a number"
        raise ValueError(f"--set {setting}: give {kind} after the =") from None


def _told(known: Mapping[str, Any]) -> str:
    return ", ".join(key if value is ... else f"{key} ({value})" for key, value in known.items())
