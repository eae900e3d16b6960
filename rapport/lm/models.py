"""The model that a verb is about: found, loaded, given an adapter; where it runs and in which numbers."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from policies.cpu_torchvision import ensure_torchvision
from rapport.console import working
from rapport.run import read_json

if TYPE_CHECKING:
    from llm_bridge.law import Law
    from llm_bridge.lm import LM
    from llm_bridge.reward import RewardLM
    from rapport.lm.verb import Speaking

TUTOR, MODEL, ADAPTER, RESULT = "tutor", "model", "adapter", "result.json"
CACHE = Path("runs/cache")
SMALL = 10_000_000  # weights: slower on two threads than on one, and learned at a higher rate


class ModelError(ValueError):
    """A model that cannot be loaded or used; the sentence names it and the mend."""


class MemoryFull(ValueError):
    """A GPU or computer without room; the sentence says what fits next. The run goes on from its last checkpoint."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """`place`: where transformers finds it. `adapter`: learned by one. `began`: it had learned by one before."""

    model: Any
    tokenizer: Any
    place: str
    device: torch.device
    dtype: torch.dtype
    adapter: bool
    began: bool
    notes: tuple[str, ...] = ()

    def lm(self, row: int | None, law: Law | None = None) -> LM:
        from llm_bridge.lm import LM

        return LM(self.model, law=law, row=row)

    def weights(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def says(self) -> str:
        """What was chosen, in a line."""
        learned = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        products = ", products in bfloat16" if self.device.type == "cuda" and self.dtype == torch.float32 else ""
        threads = f" ({torch.get_num_threads()} threads)" if self.device.type == "cpu" else ""
        return (
            f"{self.place}: {self.weights():,} weights, {learned:,} learn; {name_of(self.dtype)} on "
            f"{self.device}{threads}{products}"
        )


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def place_of(name: str) -> str:
    """Where transformers finds what `--model` names. Raises ModelError for a folder that holds no model."""
    if name == TUTOR:
        ensure_torchvision()
        from llm_bridge.testbed.pretrain import folder, pretrained

        if not folder(CACHE).exists():
            with working("pre-training the tutor, once"):
                pretrained(CACHE)
        return str(folder(CACHE))
    path = Path(name)
    for found in (path / MODEL, path):
        if (found / "config.json").is_file() and "model_type" in (found / "config.json").read_text():
            return str(found)
        if (found / "adapter_config.json").is_file():
            return str(found)
    if path.exists() or name.count("/") > 1 or name.startswith((".", "/", "~", "runs/")):
        state = "holds no model" if path.exists() else "is not there"
        raise ModelError(
            f"{name} {state}: give a folder with config.json as transformers writes it, or a finished run."
        )
    return name


def load(
    options: Speaking, *, lora: int = 0, learns: bool = False, outputs: int = 0, checkpointing: bool = False
) -> Loaded:
    """A causal model, or with `outputs` a classifier with so many. The head and the adapter are drawn by the seed.

    Raises ModelError in a sentence.
    """
    _quiet()
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    device = device_of(options.device)
    place = place_of(options.model)
    dtype = dtype_of(options.dtype, device, learns and not lora)
    adapted = (Path(place) / "adapter_config.json").is_file()
    if adapted and (lora or outputs):
        raise ModelError(f"{place} is an adapter: leave --lora out to learn on with it, or give the whole model.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        try:
            tokenizer = AutoTokenizer.from_pretrained(place)
            if adapted:
                from peft import AutoPeftModelForCausalLM

                model: Any = AutoPeftModelForCausalLM.from_pretrained(place, is_trainable=learns, dtype=dtype)
            elif outputs:
                model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=outputs, dtype=dtype)
            else:
                model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype)
            if lora:
                model = _adapted(model, lora, classifies=bool(outputs))
        except Exception as error:  # of many kinds, on files from anywhere
            raise _unread(place, error) from error
    notes = _mend(tokenizer, place)
    model.config.pad_token_id = tokenizer.pad_token_id
    model = _still(model.to(device))
    if not learns:
        model.requires_grad_(False)
    if checkpointing:
        model.train()
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if device.type == "cpu" and sum(p.numel() for p in model.parameters()) < SMALL:
        torch.set_num_threads(1)
    return Loaded(model, tokenizer, place, device, dtype, bool(lora) or adapted, adapted, notes)


def words_of(options: Speaking) -> tuple[Any, Any]:
    """The tokenizer and the configuration of `--model`, without its weights. Raises ModelError."""
    _quiet()
    from transformers import AutoConfig, AutoTokenizer

    place = place_of(options.model)
    try:
        if (adapter := Path(place) / "adapter_config.json").is_file():
            base = str(json.loads(adapter.read_text())["base_model_name_or_path"])
        else:
            base = place
        tokenizer, config = AutoTokenizer.from_pretrained(place), AutoConfig.from_pretrained(base)
    except Exception as error:  # of many kinds, on files from anywhere
        raise _unread(place, error) from error
    _mend(tokenizer, place)
    return tokenizer, config


def reward_of(run: str, options: Speaking) -> tuple[RewardLM, Any, bool]:
    """The reward model of a finished run, its tokenizer, and whether it learned from plain texts. Raises ModelError."""
    _quiet()
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from llm_bridge.reward import RewardLM

    place = place_of(run)
    if not is_reward(place):
        raise ModelError(f"{run} is no reward model but {architecture(place)}: give a run of `rapport lm reward`.")
    device = device_of(options.device)
    dtype = dtype_of(options.dtype, device, False)
    try:
        model: Any = AutoModelForSequenceClassification.from_pretrained(place, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(place)
        reward = RewardLM(_still(model.to(device)).requires_grad_(False), row=options.row)
    except Exception as error:  # of many kinds, on files from anywhere
        raise _unread(place, error) from error
    return reward, tokenizer, bool(config_of(run).get("plain", options.plain))


def config_of(run: str) -> dict[str, Any]:
    """That of a finished run of `rapport lm`, otherwise nothing."""
    path = Path(run) / "config.json"
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    return found if "verb" in found and (Path(run) / RESULT).exists() else {}


def _unread(place: str, error: Exception) -> ModelError:
    said = " ".join(str(error).split())[:300]
    return ModelError(f"{place} cannot be loaded ({type(error).__name__}: {said}): give another.")


def _quiet() -> None:
    """transformers, which has bars of its own."""
    ensure_torchvision()
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


def is_reward(place: str) -> bool:
    """A folder's, or the hub's. Raises ModelError for what cannot be read."""
    return "SequenceClassification" in architecture(place)


def architecture(place: str) -> str:
    _quiet()
    from transformers import AutoConfig

    if (Path(place) / "adapter_config.json").is_file():
        return "an adapter"
    try:
        return str((AutoConfig.from_pretrained(place).architectures or ["?"])[0])
    except Exception as error:  # of many kinds, on files from anywhere
        raise _unread(place, error) from error


def device_of(name: str) -> torch.device:
    if name == "auto":
        own = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"  # of several processes each has one
        return torch.device(own if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"--device {name}: torch sees no GPU here: leave it out, or take cpu.")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ModelError(f"--device {name} is none: give cpu, cuda or auto.") from None


def dtype_of(name: str, device: torch.device, learns: bool) -> torch.dtype:
    """Weights that learn are float32, or steps smaller than a 256th of a weight would be lost."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and not learns else torch.float32
    if name == "bfloat16" and learns:
        raise ModelError(
            "--dtype bfloat16 loses small steps of weights that learn: leave it out, or learn by --lora R."
        )
    return torch.bfloat16 if name == "bfloat16" else torch.float32


@contextlib.contextmanager
def memory(row: int, what: str = "learning") -> Iterator[None]:
    """Full memory, a GPU's or the computer's own, becomes a sentence that says which --row is next."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        gpu = isinstance(error, torch.OutOfMemoryError)
        if not gpu and not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        torch.cuda.empty_cache()
        mend = (
            f"the same command with --row {max(row // 2, 1)} goes on"
            if what == "learning"
            else ("the same command with a smaller --max-answer, or less to sample at once, goes on")
        )
        whose = "GPU" if gpu else "computer"
        raise MemoryFull(
            f"The {whose}'s memory is full while {what}, with --row {row}: {mend}, and loses nothing."
        ) from error


def _adapted(model: Any, rank: int, classifies: bool) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    kind = TaskType.SEQ_CLS if classifies else TaskType.CAUSAL_LM
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type=kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of what peft still asks of transformers
        return get_peft_model(model, config)


def _mend(tokenizer: Any, place: str) -> tuple[str, ...]:
    from llm_bridge.style import style

    if style(tokenizer).stop is None:
        raise ModelError(
            f"The tokenizer of {place} has neither an end of turn nor EOS, so nothing would end an answer: set "
            "tokenizer.eos_token and save it there."
        )
    notes = []
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(style(tokenizer).stop)
        notes.append(f"its tokenizer has no padding token; what is written takes {tokenizer.pad_token} for it")
    return tuple(notes)


def _still(model: Any) -> Any:
    """Without dropout: log-probabilities are those of what was sampled, and a step is a function of its batch."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    return model.eval()


def learned(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


class Learned:
    """What learns, as a part of a checkpoint: of an adapter's model the adapter alone."""

    def __init__(self, module: nn.Module, identity: str) -> None:
        self.module, self.identity = module, identity

    def state_dict(self) -> dict[str, Any]:
        return {name: p.detach() for name, p in learned(self.module).items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for weights of other names or shapes."""
        own = learned(self.module)
        if own.keys() != state.keys() or any(own[name].shape != x.shape for name, x in state.items()):
            raise ValueError(f"it has {len(state)} weights, here are {len(own)}, or of other shapes")
        for name, x in state.items():
            own[name].copy_(x)

    def fingerprint(self) -> str:
        return self.identity


def limits_of(options: Speaking) -> dict[str, Any]:
    """How texts become tokens."""
    return {"max_prompt": options.max_prompt, "max_answer": options.max_answer, "plain": options.plain}


def of(options: Speaking, model: str) -> Speaking:
    """The same options for another model."""
    return replace(options, model=model)


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else tokenizers warn of forks
