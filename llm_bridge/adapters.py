"""References of a model that learns by an adapter: the same weights, with the adapter off or another one on.

No second model is held. With the adapter off a policy is what it was before a *fresh* adapter was put in; a run that
goes on from a trained one needs that one, frozen, as its reference (`freeze`), or it would be held to the wrong policy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from embodied.feedback import Segments
from llm_bridge.head import Head
from llm_bridge.lm import LM
from llm_bridge.packing import Pack


class AdapterOff:
    """What the model says without its adapter; a policy that never learns. Raises TypeError for a model without one."""

    density = False

    def __init__(self, lm: LM) -> None:
        if not hasattr(lm.model, "disable_adapter"):
            raise TypeError(
                f"{type(lm.model).__name__} has no adapter to switch off; give Reference(lm), a frozen copy"
            )
        self._lm = lm

    @torch.no_grad()
    def log_prob(self, segments: Segments) -> Tensor:
        """[B,K,T], as LM's."""
        with self._lm.model.disable_adapter():
            return self._lm.log_prob(segments)

    @torch.no_grad()
    def hidden(self, laid: Pack) -> Tensor:
        """As LM's; what its `kl` takes."""
        with self._lm.model.disable_adapter():
            return self._lm.hidden(laid)

    def head(self) -> Head:
        return self._lm.head()

    def state_dict(self) -> dict[str, Tensor]:
        """The weights that it speaks by."""
        return _weights(self._lm, None)


class Adapter:
    """What the model says with a frozen adapter of its own in the place of the one that learns."""

    density = False

    def __init__(self, lm: LM, name: str = "reference") -> None:
        if name not in getattr(lm.model, "peft_config", {}):
            raise ValueError(f"the model has no adapter {name!r}; make one with freeze(lm, {name!r})")
        self._lm, self._name = lm, name

    @torch.no_grad()
    def log_prob(self, segments: Segments) -> Tensor:
        """[B,K,T], as LM's."""
        with _active(self._lm.model, self._name):
            return self._lm.log_prob(segments)

    @torch.no_grad()
    def hidden(self, laid: Pack) -> Tensor:
        """As LM's; what its `kl` takes."""
        with _active(self._lm.model, self._name):
            return self._lm.hidden(laid)

    def head(self) -> Head:
        return self._lm.head()

    def state_dict(self) -> dict[str, Tensor]:
        """The weights that it speaks by."""
        return _weights(self._lm, self._name)


def freeze(lm: LM, name: str = "reference") -> Adapter:
    """A frozen copy of the adapter as it is now, to be the reference of a run that goes on from it.

    Raises TypeError for a model without an adapter, ValueError for a name that is taken.
    """
    model = lm.model
    if not hasattr(model, "peft_config"):
        raise TypeError(f"{type(model).__name__} has no adapter to copy; give Reference(lm), a frozen copy")
    if name in model.peft_config:
        raise ValueError(f"there is an adapter {name!r} already; choose another name")
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    learning = model.active_adapter
    weights = {k: v.detach().clone() for k, v in get_peft_model_state_dict(model, adapter_name=learning).items()}
    model.add_adapter(name, model.peft_config[learning])
    set_peft_model_state_dict(model, weights, adapter_name=name)
    model.set_adapter(learning)
    for key, parameter in model.named_parameters():
        if f".{name}." in key:
            parameter.requires_grad_(False)
    return Adapter(lm, name)


@contextlib.contextmanager
def _active(model: Any, name: str) -> Iterator[None]:
    """The adapter, and what learns afterwards is what learned before."""
    learning = model.active_adapter
    wanted = {p for p in model.parameters() if p.requires_grad}
    model.set_adapter(name, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter(learning)
        for parameter in model.parameters():
            parameter.requires_grad_(parameter in wanted)


def _weights(lm: LM, adapter: str | None) -> dict[str, Tensor]:
    """The model's weights, and of its adapters' those of one, or of none."""
    others = [f".{name}." for name in lm.model.peft_config if name != adapter]
    return {k: v for k, v in lm.state_dict().items() if not any(other in f"{k}." for other in others)}
