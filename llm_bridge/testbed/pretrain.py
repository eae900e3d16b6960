"""A Llama of 0.7 million parameters that learns the tutor's language from nothing, on one core, and is kept.

model = pretrained(Path("runs/cache"))  # minutes the first time, at once from then on

Three things make it quick. Every token's target is its law given the words before it, instead of one draw from that
law: the same gradient on average, with less noise. First the sums are learned, from the plain direct answers alone,
which are short; the first steps of scaffolds and the tones follow, and take few steps. And matrices are moved by Muon.
Then AdamW makes small steps to the end: the same sums, in weights that a method can move without breaking them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from embodied import atomic
from llm_bridge.testbed import tutor

Progress = Callable[[int, float], None]  # (steps done, loss in nats per token of an answer)
RECIPE = 2  # of the training below: another number, another model, whatever was kept of earlier ones
_ABOUT, _WEIGHTS = "testbed.json", "model.safetensors"


class CacheError(ValueError):
    """A kept model that cannot be used; the sentence names the folder and the mend."""


@dataclass(frozen=True)
class Pretraining:
    """The model and how it is trained; the defaults are those of every published figure."""

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 336
    steps: int = 400
    sums: float = 0.45
    """The share of the steps on plain direct answers alone."""
    batch: int = 96
    muon: float = 0.02
    """Muon's rate at its highest, for the matrices."""
    adam: float = 3e-3
    """AdamW's, for the words and the norms."""
    warmup: int = 40
    decay: float = 0.1
    """Of the weights, times the rate."""
    small: int = 250
    """Steps after that, of AdamW for everything, at 1e-3 falling to 0."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.warmup) < 1 or not 0 <= self.sums <= 1 or min(self.muon, self.adam) <= 0:
            raise ValueError(f"{self}; give at least one step and row, a share in [0,1], and rates above 0")
        if self.small < 0:
            raise ValueError(f"small is {self.small}; give at least 0 small steps")


USUAL = Pretraining()
NANO = Pretraining(48, 2, 4, 2, 96, steps=120, sums=0.0, batch=32, muon=0.03, adam=6e-3, warmup=10, small=0)
"""Speaks within seconds, and cannot add: for tests of everything that does not need sums."""


def pretrained(
    cache: Path,
    settings: Pretraining = USUAL,
    *,
    progress: Progress | None = None,
    doing: Callable[[str], object] = lambda what: None,
) -> LlamaForCausalLM:
    """The model, from the cache or trained and put there; on a CPU.

    The folder, `folder(cache, settings)`, is what save_pretrained writes, tokenizer included, so that other programs
    load it too. It is there whole or not at all; who comes while another process trains waits. Raises CacheError for a
    folder that was damaged.
    """
    path = folder(cache, settings)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a kill lets it go
        except BlockingIOError:
            doing("waiting for another process that trains the same model")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            doing("pre-training")
            _keep(path, settings, train(settings, progress))
    return _load(path, settings)


def folder(cache: Path, settings: Pretraining = USUAL) -> Path:
    return cache / f"tutor-{hashlib.sha256(json.dumps(_about(settings)).encode()).hexdigest()[:12]}"


def train(settings: Pretraining, progress: Progress | None = None) -> LlamaForCausalLM:
    """Pre-trains; the same settings give the same weights on the same machine. Leaves torch's random state alone."""
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(settings.seed)
        model = fresh(settings)
        rng = np.random.default_rng(settings.seed)
        optimiser = _Optimiser(model, settings)
        law = tutor.law().float()
        plain = torch.where(tutor.plain(), law, 0.0)
        for step in range(settings.steps):
            said = plain if step < settings.sums * settings.steps else law
            loss = _slopes(model, said, settings.batch, rng)
            optimiser.step((step + 1) / settings.warmup, 1 - step / settings.steps)
            if progress is not None:
                progress(step + 1, loss)
        for step, loss in enumerate(_small_steps(model, law, settings), settings.steps):
            if progress is not None:
                progress(step + 1, loss)
    return model.eval()


def _slopes(model: LlamaForCausalLM, law: Tensor, batch: int, rng: np.random.Generator) -> float:
    """Makes the gradients of the loss of some questions, in nats per token of an answer, and returns it."""
    numbers, _ = tutor.split()
    ask = numbers[torch.from_numpy(rng.integers(0, len(numbers), batch))]
    loss, tokens = 0.0, 0
    for ids, target, mask in _rows(ask, law, rng):
        step_law = model(input_ids=ids, use_cache=False).logits[:, -target.shape[1] :].log_softmax(-1)
        part = -torch.where(mask, (target * step_law).sum(-1), 0.0).sum()
        part.backward()
        loss, tokens = loss + part.item(), tokens + int(mask.sum())
    for p in model.parameters():
        p.grad = _slope(p) / tokens
    return loss / tokens


def _small_steps(model: LlamaForCausalLM, law: Tensor, settings: Pretraining) -> Iterator[float]:
    """The losses of AdamW's steps."""
    rng = np.random.default_rng(settings.seed + 1)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(settings.small):
        opt.param_groups[0]["lr"] = 1e-3 * (1 - step / settings.small)
        loss = _slopes(model, law, settings.batch, rng)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        yield loss


def fresh(settings: Pretraining) -> LlamaForCausalLM:
    """The model with random weights, from torch's own random state."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tutor.WORDS),
            hidden_size=settings.hidden,
            intermediate_size=settings.mlp,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.kv_heads,
            max_position_embeddings=64,
            initializer_range=0.05,
            tie_word_embeddings=True,
            pad_token_id=tutor.PAD,
            bos_token_id=tutor.BOS,
            eos_token_id=tutor.EOS,
        )
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small are slower on two, and the sums do not depend on how many cores there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def targets(numbers: Tensor, answer: Tensor, law: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What may follow each beginning of an answer: numbers [B,2] and which answers [B], under a law [A].

    Returns the answers int64 [B,T], bool [B,T], and the probability of every word at each step, [B,T,V].
    """
    tokens, mask = tutor.answers(numbers)
    rows = torch.arange(len(numbers))
    said = tokens[rows, answer]
    alike = (tokens == said[:, None]).cumprod(-1)
    # An answer has a say in step t while it agrees on all steps before.
    weight = torch.cat([torch.ones_like(alike[..., :1]), alike[..., :-1]], -1) * law[:, None] * mask
    share = torch.zeros(*said.shape, len(tutor.WORDS)).scatter_add_(-1, tokens.mT, weight.mT)
    return said, mask[rows, answer], share / share.sum(-1, keepdim=True).clamp_min(1e-9)


def _rows(numbers: Tensor, law: Tensor, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A batch as text drawn from the law, the short answers and the long apart: padding costs as much as words."""
    answer = torch.from_numpy(rng.choice(len(law), len(numbers), p=law.double() / law.double().sum()))
    said, mask, target = targets(numbers, answer, law)
    ids = torch.cat([tutor.prompts(numbers), said[:, :-1]], 1)
    long = mask.sum(-1) > tutor.LONGEST / 2
    for rows in (~long, long):
        if rows.any():
            most = int(mask[rows].sum(-1).max())
            yield ids[rows][:, : ids.shape[1] - said.shape[1] + most], target[rows][:, :most], mask[rows][:, :most]


class _Optimiser:
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) for the matrices, AdamW for the words and norms.

    torch.optim.Muon works in bfloat16, at which most CPUs are more than ten times as slow.
    """

    def __init__(self, model: LlamaForCausalLM, settings: Pretraining) -> None:
        self.settings = settings
        words = model.get_input_embeddings().weight
        self.model, self.matrices = model, [p for p in model.parameters() if p.ndim == 2 and p is not words]
        self.mean = [torch.zeros_like(p) for p in self.matrices]
        self.adam = torch.optim.AdamW(
            [
                {"params": [words], "weight_decay": settings.decay},
                {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=settings.adam,
            betas=(0.9, 0.98),
        )

    @torch.no_grad()
    def step(self, warm: float, left: float) -> None:
        rate = min(1.0, warm) * left
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        same: dict[torch.Size, list[int]] = {}
        for n, (p, mean) in enumerate(zip(self.matrices, self.mean, strict=True)):
            mean.lerp_(_slope(p), 0.05)
            same.setdefault(p.shape, []).append(n)
        for shape, group in same.items():  # all of one shape in one product
            aim = torch.stack([torch.lerp(_slope(self.matrices[n]), self.mean[n], 0.95) for n in group])
            size = self.settings.muon * rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for n, move in zip(group, orthogonal(aim), strict=True):
                self.matrices[n].mul_(1 - self.settings.muon * rate * self.settings.decay).sub_(move, alpha=size)
        for group_of in self.adam.param_groups:
            group_of["lr"] = self.settings.adam * rate
        self.adam.step()
        self.model.zero_grad()


def _slope(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def orthogonal(x: Tensor) -> Tensor:
    """Matrices [N,I,O] with their singular values brought near 1, by five Newton-Schulz iterations of degree 5."""
    x = x / (torch.linalg.matrix_norm(x)[:, None, None] + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


def _about(settings: Pretraining) -> dict[str, object]:
    return {"recipe": RECIPE, "words": tutor.WORDS, "settings": asdict(settings)}


def _keep(path: Path, settings: Pretraining, model: LlamaForCausalLM) -> None:
    """Whoever calls this holds the lock, so what others left half written is of nobody."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        model.save_pretrained(temporary)
        tutor.tokenizer().save_pretrained(temporary)
        about = _about(settings) | {"sha256": _digest(temporary / _WEIGHTS)}
        atomic.write(temporary / _ABOUT, json.dumps(about, indent=1).encode())
        for file in temporary.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle)
        temporary.rename(path)
        atomic.sync_folder(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CacheError(atomic.explain(error, path)) from error


def _load(path: Path, settings: Pretraining) -> LlamaForCausalLM:
    mend = f"delete {path} and run the same again: it is then pre-trained anew"
    try:
        about = json.loads((path / _ABOUT).read_text())
        digest = _digest(path / _WEIGHTS)
    except (OSError, ValueError) as error:
        raise CacheError(f"{path} is not whole ({error}); {mend}") from error
    if digest != about.get("sha256"):
        raise CacheError(f"{path / _WEIGHTS} is damaged: its SHA-256 is {digest[:12]}…, not what was written; {mend}")
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(path, local_files_only=True)
    return model.eval()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
