"""`rapport lm align`: a model is fitted to preferences directly, by any method that `rapport align` has for arms."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from embodied.direct import direct
from embodied.methods import Method
from embodied.remembered import Remembered, weights_fingerprint
from rapport.align.looks import Look, look, moved
from rapport.align.methods import LISTWISE, method_of
from rapport.console import say
from rapport.lm import data
from rapport.lm.learning import Begun, begin, learn, some
from rapport.lm.models import ModelError, memory, name_of
from rapport.lm.reward import agreement
from rapport.lm.running import Row
from rapport.lm.together import first, several, wait
from rapport.run import RunError

if TYPE_CHECKING:
    from llm_bridge.lm import LM
    from rapport.lm.verb import Align

ALONE = ("kto", "apo_zero", "bco")
"""Methods that take each answer alone, so that good and bad of one answer will do."""


def command(options: Align) -> int:
    from llm_bridge.lm import AnchoredLM

    method, em = method_of(options.method, options.set)
    if method.anchor and several():
        raise ModelError(f"{options.method} counts from the KL of a whole batch: start it alone, without torchrun.")
    if options.any_length:
        method = replace(method, equal_lengths=False)
    listwise, marks = options.method in LISTWISE, options.method in ALONE
    begun = begin(options, lambda records: data.told(records, listwise=listwise, marks=marks))
    if em is not None and len(begun.fed.learned) > 1:
        raise RunError(f"em_preference hears one kind of answer, and {begun.found.place} has {len(begun.fed.learned)}.")
    lm = AnchoredLM(begun.loaded.model, row=options.row) if method.anchor else begun.loaded.lm(options.row)
    reference = reference_of(begun, lm, method) if method.reference else None
    try:
        objective = direct(lm, method, reference)
    except TypeError as error:  # the policy lacks what the method asks of it
        raise ModelError(str(error)) from error
    sides = {"": begun.fed.learned, "held_out_": begun.fed.held_out}

    def looked(out: Path) -> Callable[[], Row]:
        def measured() -> Row:
            row: Row = {}
            for side, parts in sides.items():
                if parts:
                    cut = some(parts, lm.parts)
                    whole = objective.over([part.segments for part in cut])
                    found = shown(look(whole, reference, cut)) | agreement(whole.score, cut)
                    row |= {f"{side}{name}": value for name, value in found.items() if side or name != "loss"}
            return row

        return measured

    def after(steps: int, row: Row) -> None:
        if em is not None:
            (part,) = begun.fed.learned
            with torch.no_grad():
                score = torch.cat([objective.score(part.segments[rows]) for rows in lm.parts(part.segments)])
            em.update(method.loss, score, part)

    learn(
        options,
        "align",
        begun,
        lm,
        [(objective, part) for part in begun.fed.learned],
        looked,
        after=after,
        carried={} if em is None else {"em": em},
        every=None if em is None else em.every,
        more={"method": method.name},
        sum_up=sum_up,
        names=(options.method,),
    )
    return 0


def shown(found: Look) -> Row:
    kl = {} if found.kl is None else {"kl": found.kl}
    return {"loss": found.loss, "chosen": found.chosen, "rejected": found.rejected, **kl}


def sum_up(before: Row, after: Row) -> Row:
    """What became of the preferred and the other."""
    if before["accuracy"] is None:
        return {}
    looks = [Look(0.0, 0.0, 0, row["chosen"], row["rejected"], None) for row in (before, after)]
    return {"moved": moved(*looks)}


def reference_of(begun: Begun, lm: LM, method: Method) -> Remembered:
    """The model as it is now, before it learns: what it says of all rows is computed once and kept beside the data.

    Of an adapter it is the model without one, or with the one that it began with; of all weights a frozen copy, of
    which only what it said is held on to, unless the method asks it more (KTO's anchor).
    """
    from llm_bridge.adapters import AdapterOff, freeze

    loaded = begun.loaded
    policy: Any = freeze(lm) if loaded.began else AdapterOff(lm) if loaded.adapter else loaded.lm(lm.row)
    known = Remembered(policy)
    if not first():
        wait()  # for what the first has worked out
    path = cache_of(begun, lm, weights_fingerprint(policy))
    before = known.load(path)
    rows = [
        part.segments[some] for part in (*begun.fed.learned, *begun.fed.held_out) for some in lm.parts(part.segments)
    ]
    with memory(lm.row, "working out the reference"):
        for segments in rows:
            known.log_prob(segments)
    if len(known) > before and first():
        try:
            known.save(path)
        except ValueError as error:
            say(f"Note: the reference's log-probabilities are not kept ({error}).")
    said = f"{before} known from {path}" if before else f"kept in {path}"
    say(f"The reference's log-probabilities of {len(known)} answers: {said}.")
    if first():
        wait()
    if not loaded.adapter:
        known.policy = copy.deepcopy(lm).requires_grad_(False) if method.anchor else Gone()
    return known


class Gone:
    """A policy of which only remembered log-probabilities are left."""

    density = False

    def log_prob(self, segments: Any) -> Any:
        raise ModelError("The reference was asked about an answer that it did not see before training.")


def cache_of(begun: Begun, lm: LM, policy: str) -> Path:
    """Beside the data, one file for each model and way of computing."""
    loaded, place = begun.loaded, begun.found.place
    low = lm.low if loaded.device.type == "cuda" and lm.low is not None else loaded.dtype
    name = f"{place.name}.reference-{policy[:12]}-{loaded.device.type}-{name_of(low)}.safetensors"
    return place.resolve().with_name(name)
