"""`rapport lm` on the command line: the fields are the flags, the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rapport.align.verb import MethodName

Flag = tyro.conf.FlagCreatePairsOff[bool]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
Number = Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Speaking:
    """What every verb asks of a model."""

    model: Annotated[str, tyro.conf.arg(metavar="PATH|tutor")]
    """A folder that transformers reads, a run of `rapport lm`, or a name on the hub. tutor: a tiny model that is
    pre-trained here, in minutes the first time."""
    seed: int = 0
    """Of everything that is drawn."""
    row: Number = None
    """Tokens that go through the model at once, to be halved where memory is full; 16384 on a GPU, 512 elsewhere."""
    max_prompt: int = 2048
    """Longer prompts lose their beginning."""
    max_answer: int = 512
    """Longer answers are cut, and sampled ones end here."""
    plain: Flag = False
    """Leave the tokenizer's chat template, for texts that are written in it already."""
    device: Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda")] = "auto"
    """Where it runs; auto: a GPU if there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the weights. auto: bfloat16 for those that do not learn on a GPU, otherwise float32; a GPU multiplies in
    bfloat16 either way."""
    json: Flag = False
    """Print one JSON object last."""


@dataclass(frozen=True, kw_only=True)
class Learning(Speaking):
    """What every verb asks that trains one."""

    lora: Annotated[int, tyro.conf.arg(metavar="R")] = 0
    """Learn by an adapter of this rank (peft) and leave the weights; 0: all weights learn."""
    steps: int = 200
    """Gradient steps; of `online`, rounds."""
    batch: int = 64
    """Rows of a step: questions with all their answers."""
    rate: Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="")] = None
    """AdamW's; by default 1e-5, with --lora 2e-4, and 3e-4 for a model of less than ten million weights."""
    clip: float = 1.0
    """The longest that a step's gradient may be; 0: as long as it is."""
    checkpointing: Flag = False
    """Compute the layers again on the way back, instead of keeping what they said: less memory, a third slower."""
    every: int = 50
    """Steps between two checkpoints, looks at what was held out, and samples."""
    out: Folder = None
    """The run's folder, in which the same command resumes; by default one under runs/, named by the settings."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What every verb asks that learns from what was answered."""

    data: Annotated[str, tyro.conf.arg(metavar="FILE|DIR|tutor")]
    """A file or folder of preferences in any shape that docs/text.md lists, or a study in which people answered. tutor:
    comparisons of its answers to 2,000 questions, by its gold."""
    split: Name = None
    """Of a folder of datasets with several splits, which."""
    store: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """The study's PostgreSQL database, as `rapport ask` has it."""


@dataclass(frozen=True, kw_only=True)
class Sft(Learning, Answered):
    """Imitate demonstrations, or what was preferred."""

    def __call__(self) -> int:
        from rapport.lm.sft import command
        from rapport.lm.together import joined

        with joined():
            return command(self)


@dataclass(frozen=True, kw_only=True)
class Reward(Learning, Answered):
    """Learn a reward model from comparisons, ties, rankings, ratings and marks."""

    qualities: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
    """Learn one output for each of these scores of the data, such as helpfulness, instead of what was said."""

    def __call__(self) -> int:
        from rapport.lm.reward import command
        from rapport.lm.together import joined

        with joined():
            return command(self)


@dataclass(frozen=True, kw_only=True)
class Align(Learning, Answered):
    """Fit a model to preferences directly, with no reward model between: DPO, IPO, KTO, SimPO and their kin."""

    method: MethodName = "dpo"
    """How; docs/direct.md says what each is for."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Coefficients of the method, such as beta=.2; a wrong one lists those that there are."""
    any_length: Flag = False
    """Add up log-probabilities of answers of different lengths, also by methods for which that is wrong (cpl)."""

    def __call__(self) -> int:
        from rapport.lm.align import command
        from rapport.lm.together import joined

        with joined():
            return command(self)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The law that answers are sampled by."""

    temperature: float = 1.0
    """Of sampling; lower is more of what is likely."""
    top_p: float = 1.0
    """Sample from the fewest tokens that hold this probability."""
    top_k: int = 0
    """Sample from so many of the likeliest tokens; 0: all."""


@dataclass(frozen=True, kw_only=True)
class Served(Drawing):
    """Or a server that has the model draws them."""

    server: Annotated[str | None, tyro.conf.arg(metavar="URL#NAME", help_behavior_hint="")] = None
    """An OpenAI-compatible server (vLLM, SGLang) that draws the answers, such as http://localhost:8000/v1#my-model;
    --model is then the same model's folder, of which `sample` takes the tokenizer alone."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Who compares answers at once."""

    prefer: Annotated[str | None, tyro.conf.arg(metavar="URL#NAME|MODEL|RUN|gold|F", help_behavior_hint="")] = None
    """Who compares: a server's model, such as http://localhost:8000/v1#Qwen/Qwen3-8B; a causal model or a run of
    `rapport lm reward` here; the tutor's gold; or file.py:function(prompt, first, second) -> chance that the first is
    better. All are asked both ways round."""
    rubric: Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")] = None
    """What better means, for a model that compares; by default, what helps more."""
    reasoned: Flag = False
    """A server's model thinks first, and says one side; otherwise one letter, read by its probability."""
    extra_body: Annotated[str, tyro.conf.arg(metavar="JSON")] = "{}"
    """What else a server's requests hold, such as '{"chat_template_kwargs": {"enable_thinking": false}}'."""
    per_minute: float = 0.0
    """Requests to a server a minute, at most; 0: as many as go."""
    timeout: float = 60.0
    """Seconds for a reply of a server."""
    most_calls: int = 20_000
    """Where a server would be asked more often than that, nothing is begun."""


@dataclass(frozen=True, kw_only=True)
class Online(Learning, Drawing, Judged):
    """Learn from one's own samples, judged at once: by a reward run, a language model, the tutor's gold, or a function
    of yours."""

    prompts: Annotated[str, tyro.conf.arg(metavar="FILE|DIR|tutor")]
    """Whose prompts are answered: any data, of which nothing else is used. tutor: the questions to learn from."""
    method: Literal["ppo", "rloo", "grpo", "p3o", "raft", "superhf", "best-of-n", "online-ipo"] = "rloo"
    """How the policy follows; docs/online.md. best-of-n imitates the best of what the model said before it learned."""
    reward: Annotated[str | None, tyro.conf.arg(metavar="RUN|gold|F", help_behavior_hint="")] = None
    """Who gives points, where nobody compares: a run of `rapport lm reward`, gold (the tutor's), or
    file.py:function(prompt, answers) -> numbers."""
    kl: float = 0.2
    """The price of a nat of KL to the model as it began, in units of reward: the less a reward is to be trusted, the
    higher. Of superhf the coefficient, of online-ipo tau."""
    rollouts: int = 32
    """Prompts of a round."""
    k: int = 4
    """Answers to each."""
    epochs: int = 1
    """Gradient steps on each round's samples."""

    def __call__(self) -> int:
        from rapport.lm.online import command

        return command(self)


@dataclass(frozen=True, kw_only=True)
class Sample(Speaking, Served):
    """Print a model's answers, or write them as JSON lines."""

    prompts: Annotated[str | None, tyro.conf.arg(metavar="FILE|DIR|tutor", help_behavior_hint="")] = None
    """Whose prompts are answered. tutor: the questions that are held out."""
    ask: tuple[str, ...] = ()
    """Or these."""
    limit: int = 20
    """At most so many prompts."""
    k: int = 1
    """Answers to each."""
    best_of: Annotated[str | None, tyro.conf.arg(metavar="RUN|gold|F", help_behavior_hint="")] = None
    """Keep the best of the k answers by this reward, as `online --reward` has it."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Write JSON lines, {"prompt": ..., "answers": [...]}, which `rapport ask --texts` and the other verbs read."""

    def __call__(self) -> int:
        from rapport.lm.sample import command

        return command(self)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Speaking, Served, Judged):
    """Measure a model: on held-out answers, against where it began, against another one."""

    data: Annotated[str | None, tyro.conf.arg(metavar="FILE|DIR|tutor", help_behavior_hint="")] = None
    """Comparisons that are foretold; of a run, by default what it held out."""
    split: Name = None
    """Of a folder of datasets with several splits, which."""
    store: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """The study's PostgreSQL database."""
    reference: Name = None
    """The model that it is held against (KL, log-ratios); of a run, by default what it began as."""
    against: Name = None
    """Another model or run, whose answers it has to beat, by --reward or --prefer."""
    log_probs: Literal["model", "tempered", "processed", "unknown"] = "model"
    """Of which law --server's log-probabilities are, for KL: the model's own (vLLM as it starts), after the temperature
    (SGLang), or what it draws by (vLLM with --logprobs-mode processed_logprobs)."""
    prompts: Annotated[str | None, tyro.conf.arg(metavar="FILE|DIR|tutor", help_behavior_hint="")] = None
    """What both are asked; by default the held-out prompts."""
    reward: Annotated[str | None, tyro.conf.arg(metavar="RUN|gold|F", help_behavior_hint="")] = None
    """Who gives the answers points, as `online --reward` has it. gold: also the share of the possible gain."""
    limit: int = 200
    """At most so many comparisons and prompts."""
    k: int = 4
    """Answers to each prompt."""

    def __call__(self) -> int:
        from rapport.lm.evaluate import command

        return command(self)


@dataclass(frozen=True)
class Lm:
    """Language models: imitation, reward models, direct alignment, learning from one's own samples, evaluation."""

    what: Annotated[
        Annotated[Sft, tyro.conf.subcommand("sft")]
        | Annotated[Reward, tyro.conf.subcommand("reward")]
        | Annotated[Align, tyro.conf.subcommand("align")]
        | Annotated[Online, tyro.conf.subcommand("online")]
        | Annotated[Sample, tyro.conf.subcommand("sample")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> int:
        return self.what()
