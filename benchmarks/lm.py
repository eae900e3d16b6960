"""The language bridge beside trl and transformers: pairs a second, memory, sampled tokens, whole on-line steps.

    python benchmarks/lm.py                                  # the tiny model, on this machine's CPU
    python benchmarks/lm.py --models qwen-0.5b llama-1b      # on a GPU; peers in their own environment
    python benchmarks/lm.py --models qwen-0.5b --peer-python python3 --what dpo --laws long

No weights are needed: models are drawn at random, and answers have the lengths they are given. Each side runs in
processes of its own, in turn; peers are trl as it comes (`default`), with its reference computed beforehand and no
checkpointing (`tuned`), and with pairs of like length in a batch (`grouped`). Before anything is timed, our
log-probabilities and gradients are held against the plain model's, and shown.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_env import interpreter
from torch import Tensor

from embodied.advantages import group
from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.fit import fit
from embodied.methods import dpo
from embodied.policy_gradient import clipped, policy_gradient
from llm_bridge.law import Law
from llm_bridge.lm import LM, base
from llm_bridge.sampler import Sampler
from policies.cpu_torchvision import ensure_torchvision

HERE = Path(__file__).parent
EACH = 64  # pairs of an optimiser step
LONGEST = 1536
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {
        "model_type": "llama",
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 384,
        "vocab_size": 512,
    },
    "qwen-0.5b": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "vocab_size": 151_936,
        "rope_theta": 1e6,
    },
    "llama-1b": {
        "model_type": "llama",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 128_256,
        "rope_theta": 5e5,
    },
}
# Means of prompt and answer in tokens, log-normal with sigma .6; what UltraFeedback, HH and TL;DR look like.
LAWS = {"long": (200, 300), "chat": (180, 75), "summaries": (350, 38), "equal": (256, 256), "no prompt": (1, 300)}
SPREAD = {"equal": 0.0}


def lengths(law: str, n: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """[n,3]: tokens of prompt, chosen, rejected; together at most LONGEST."""
    sigma = SPREAD.get(law, 0.6)
    means = np.array([LAWS[law][0], LAWS[law][1], LAWS[law][1]])
    drawn = np.exp(rng.normal(np.log(means) - sigma**2 / 2, sigma, (n, 3))).round().astype(int)
    if law in ("equal", "no prompt"):
        drawn[:, 0] = LAWS[law][0]
    return drawn.clip(1, [LONGEST // 3, LONGEST // 2, LONGEST // 2])


def pairs(law: str, n: int, vocabulary: int, seed: int = 0) -> list[dict[str, list[int]]]:
    rng = np.random.default_rng(seed)
    names = ("prompt", "chosen", "rejected")
    return [
        {name: rng.integers(2, vocabulary, int(k)).tolist() for name, k in zip(names, row, strict=True)}
        for row in lengths(law, n, rng)
    ]


def as_feedback(rows: list[dict[str, list[int]]]) -> Feedback:
    def padded(texts: list[list[int]]) -> tuple[Tensor, Tensor]:
        length = torch.tensor([len(t) for t in texts])
        mask = torch.arange(int(length.max())) < length[:, None]
        ids = torch.zeros(mask.shape, dtype=torch.int64)
        ids[mask] = torch.tensor([i for t in texts for i in t])
        return ids, mask

    prompt, prompt_mask = padded([row["prompt"] for row in rows])
    act, mask = padded([row[name] for row in rows for name in ("chosen", "rejected")])
    act, mask = act.view(len(rows), 2, -1), mask.view(len(rows), 2, -1)
    segments = Segments(
        {"prompt": prompt[:, None], "prompt_mask": prompt_mask[:, None]}, act, mask, torch.full(mask.shape, torch.nan)
    )
    n = len(rows)
    return Feedback(
        segments,
        torch.tensor([1.0, 0.0]).repeat(n, 1),
        torch.ones(n),
        torch.zeros(n, dtype=torch.int64),
        torch.ones(n, dtype=torch.bool),
    )


def tokens(rows: list[dict[str, list[int]]], batch: int = 8) -> dict[str, float]:
    """Tokens of a pair: as they are, each prompt once; and as padded batches hold them."""
    sizes = np.array([[len(row["prompt"]), len(row["chosen"]), len(row["rejected"])] for row in rows])
    whole = sizes[:, :1] + sizes[:, 1:]
    full = whole[: len(rows) // batch * batch].reshape(-1, batch * 2).max(1).mean() * 2
    return {"shared": float(sizes.sum(1).mean()), "padded": float(full)}


def load(folder: Path, row: int | None) -> LM:
    ensure_torchvision()
    from transformers import AutoModelForCausalLM

    gpu = torch.cuda.is_available()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = model.to("cuda" if gpu else "cpu").train()
    lm = LM(model, row=row or None)
    if gpu:
        lm.compile_layers()
    return lm


def clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def adamw(lm: LM) -> torch.optim.Optimizer:
    opt = torch.optim.AdamW(lm.parameters(), lr=1e-6, weight_decay=0.0, fused=torch.cuda.is_available())

    def clip(*_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)

    opt.register_step_pre_hook(clip)
    return opt


def ours_dpo(lm: LM, data: list[Path], steps: int, warm: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in data:
        begun = clock()
        feedback = as_feedback([json.loads(line) for line in path.read_text().splitlines()])
        objective = direct(lm, dpo(0.1))
        start = clock()
        with torch.no_grad():  # the reference's numbers, once for all epochs
            for some in lm.parts(feedback.segments):
                assert objective.reference is not None
                objective.reference.log_prob(feedback.segments[some])
        reference = clock() - start
        opt, rng = adamw(lm), np.random.default_rng(0)
        at: list[float] = []
        go = {"batch": EACH, "rng": rng, "split": lm.parts}
        fit(objective, feedback, opt, steps=warm, **go)  # type: ignore[arg-type]
        before = clock() - begun
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        at.append(clock())
        report = fit(objective, feedback, opt, steps=steps, progress=lambda *_, at=at: at.append(clock()), **go)  # type: ignore[arg-type]
        found[path.stem] = {
            "seconds": np.diff(at).round(4).tolist(),
            "pairs": EACH,
            "reference": round(reference, 2),
            "before": round(before, 1),
            "memory": torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0,
            "losses": list(report.losses),
        }
        print(path.stem, found[path.stem], file=sys.stderr, flush=True)
        del objective, opt
        lm.zero_grad()
    return found


def ours_sample(lm: LM, data: Path, k: int, length: int) -> dict[str, Any]:
    prompts = [json.loads(line)["prompt"] for line in data.read_text().splitlines()]
    n = len(prompts) * k
    sampler = Sampler(lm, slots=min(n, 512), capacity=max(map(len, prompts)) + length, longest=length, stop=())
    seconds, rng = [], np.random.default_rng(0)
    for _ in range(2):
        start = clock()
        segments = sampler(prompts, k, rng)
        seconds.append(round(clock() - start, 3))
    with torch.no_grad():
        some = segments[: min(len(prompts), 8)]
        ratio = torch.exp(lm.log_prob(some) - some.log_prob)[some.mask]
    return {"seconds": seconds, "answers": n, "tokens": length, "ratio": float(ratio.mean())}


def ours_grpo(lm: LM, data: Path, k: int, length: int, steps: int) -> dict[str, Any]:
    """GRPO's clipped surrogate on groups of k, one update a rollout."""
    prompts = [json.loads(line)["prompt"] for line in data.read_text().splitlines()]
    n = len(prompts) * k
    sampler = Sampler(lm, slots=min(n, 512), capacity=max(map(len, prompts)) + length, longest=length, stop=())
    opt, rng = adamw(lm), np.random.default_rng(0)
    sampling, seconds = [], []

    objective = policy_gradient(lm, clipped(0.2, mean=True), group())
    for _ in range(steps):
        start = clock()
        segments = sampler(prompts, k, rng)
        sampling.append(round(clock() - start, 3))
        reward = ((segments.act % 2 == 0) & segments.mask).sum(-1) / segments.mask.sum(-1)
        ones = torch.ones(len(prompts))
        judged = Feedback(segments, reward, ones, ones.long() * 0, ones.bool())
        fit(objective, judged, opt, steps=1, batch=len(prompts), rng=rng, split=lm.parts)
        seconds.append(round(clock() - start, 3))
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return {"seconds": seconds, "sampling": sampling, "answers": n, "memory": memory}


def check(lm: LM, rows: list[dict[str, list[int]]]) -> dict[str, float]:
    """Ours against the plain model, text by text: log-probabilities and gradients, in float32 and as trained; and the
    ratio of a policy to its own samples under a cut law."""
    segments = as_feedback(rows).segments
    model, trained = base(lm.model), lm.low

    def plain(low: bool) -> tuple[Tensor, dict[str, Tensor]]:
        model.zero_grad()
        found = torch.zeros(segments.mask.shape)
        total = torch.zeros((), device=lm.device)
        for b in range(len(segments)):
            prompt = segments.obs["prompt"][b, 0][segments.obs["prompt_mask"][b, 0]]  # type: ignore[index]
            for j in range(2):
                answer = segments.act[b, j][segments.mask[b, j]]
                ids = torch.cat([prompt, answer])[None].to(lm.device)
                with torch.autocast(lm.device.type, torch.bfloat16, enabled=low):
                    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
                logp = logits.float().log_softmax(-1).gather(1, answer[:, None].to(lm.device))[:, 0]
                found[b, j][segments.mask[b, j]] = logp.detach().cpu()
                total = total + logp.sum() * (1 - 2 * j) / 100
        total.backward()  # type: ignore[no-untyped-call]
        return found, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    def ours(low: torch.dtype | None) -> tuple[Tensor, dict[str, Tensor]]:
        model.zero_grad()
        lm.low = low
        logp = lm.log_prob(segments)
        ((logp * segments.mask).sum(-1) @ torch.tensor([1.0, -1.0]) / 100).sum().backward()  # type: ignore[no-untyped-call]
        return logp.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    def apart(a: tuple[Tensor, dict[str, Tensor]], b: tuple[Tensor, dict[str, Tensor]]) -> dict[str, float]:
        off = (a[0] - b[0]).abs()[segments.mask]
        cosine = [torch.cosine_similarity(g.flatten().double(), b[1][n].flatten().double(), 0) for n, g in a[1].items()]
        norm = [(g - b[1][n]).norm() / b[1][n].norm() for n, g in a[1].items()]
        return {
            "mean": float(off.mean()),
            "most": float(off.max()),
            "cosine": float(min(cosine)),
            "norm": float(max(norm)),
        }

    torch.backends.cuda.matmul.allow_tf32 = False
    exact = plain(False)
    found = {f"float32 {k}": v for k, v in apart(ours(None), exact).items()}
    if lm.device.type == "cuda":
        found |= {f"bfloat16 {k}": v for k, v in apart(ours(torch.bfloat16), exact).items()}
        found |= {f"plain bfloat16 {k}": v for k, v in apart(plain(True), exact).items()}
    model.zero_grad()
    lm.low = trained
    lm = LM(lm.model, law=Law(0.7, 20, 0.9), row=lm.row)
    sampler = Sampler(lm, slots=16, capacity=128, longest=64, stop=())
    drawn = sampler([row["prompt"][:32] for row in rows], 8, np.random.default_rng(0))
    with torch.no_grad():
        found["ratio"] = float(torch.exp(lm.log_prob(drawn) - drawn.log_prob)[drawn.mask].mean())
    return found


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["tiny"])
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=["long", "chat", "summaries"])
    parser.add_argument("--what", nargs="+", choices=("check", "dpo", "sample", "grpo"), default=None)
    parser.add_argument(
        "--variants", nargs="*", default=["default:8", "tuned:8", "grouped:8"], help="of trl: name:batch"
    )
    parser.add_argument("--steps", type=int, default=10, help="timed, of each side")
    parser.add_argument("--warm", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=1024)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--row", type=int, default=0, help="tokens of a row of our model, 0: the default")
    parser.add_argument("--caches", nargs="*", default=["dynamic", "static"], help="of generate()")
    parser.add_argument("--peer-env", type=Path, default=HERE.parent / ".venv-trl")
    parser.add_argument("--peer-python", type=Path, default=None, help="an interpreter that has trl already")
    parser.add_argument("--out", type=Path, default=Path("runs/lm-benchmark"))
    parser.add_argument("--ours", nargs="+", default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        print(json.dumps(_ours(args)))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"
    print(f"{gpu}; torch {torch.__version__}; {EACH} pairs an optimiser step, {args.steps} timed after {args.warm}")
    for name in args.models:
        _model(name, args)


def _model(name: str, args: argparse.Namespace) -> None:
    folder = args.out / name
    if not (folder / "config.json").exists():
        ensure_torchvision()
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        config = AutoConfig.for_model(**MODELS[name], tie_word_embeddings=True, max_position_embeddings=2048)
        with torch.device(device):  # a billion numbers are drawn
            model: Any = AutoModelForCausalLM
            model.from_config(config).save_pretrained(folder)
    vocabulary = MODELS[name]["vocab_size"]
    data = []
    for law in args.laws:
        rows = pairs(law, args.pairs, vocabulary)
        data.append(args.out / f"{name}-{law.replace(' ', '-')}.jsonl")
        data[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{name}, {law}: {tokens(rows)} tokens a pair")
    prompts = args.out / f"{name}-prompts.jsonl"
    rng = np.random.default_rng(1)
    prompts.write_text(
        "".join(json.dumps({"prompt": rng.integers(2, vocabulary, 256).tolist()}) + "\n" for _ in range(args.prompts))
    )
    what = args.what or ["check", "dpo", "sample", "grpo"]
    sizes = [args.k, args.length]
    rest = ["--steps", args.steps, "--warm", args.warm, "--k", args.k, "--length", args.length, "--row", args.row]
    for which, found in _run(
        [sys.executable, __file__, *rest, "--ours", ",".join(what), folder, prompts, *data]
    ).items():
        _tell(name, which, _rate(found) if which.startswith("dpo") else found)
    if "dpo" in what:
        many = ",".join(args.variants)
        for which, found in _run([*_peer(args, "trl_dpo"), folder, args.steps + 1, many, *data]).items():
            _tell(name, f"dpo, {which}", _rate(found))
    if "sample" in what:
        for cache in args.caches:
            found = _run([*_peer(args, "hf_generate"), folder, prompts, *sizes, cache])
            _tell(name, f"sample, generate, {cache} cache", found)
    if "grpo" in what:
        _tell(name, "grpo, trl", _run([*_peer(args, "trl_grpo"), folder, prompts, *sizes, 8, 3]))


def _ours(args: argparse.Namespace) -> dict[str, Any]:
    what, folder, prompts, *data = args.ours
    start = clock()
    lm = load(Path(folder), args.row)
    found: dict[str, Any] = {"loaded": {"seconds": round(clock() - start, 1)}}
    for which in what.split(","):
        if which == "check":
            rows = [json.loads(line) for line in Path(data[0]).read_text().splitlines()[:6]]
            found["check"] = check(lm, rows)
        elif which == "dpo":
            found |= {
                f"dpo, {k}, ours": v for k, v in ours_dpo(lm, list(map(Path, data)), args.steps, args.warm).items()
            }
        elif which == "sample":
            found["sample, ours"] = ours_sample(lm, Path(prompts), args.k, args.length)
        else:
            found["grpo, ours"] = ours_grpo(lm, Path(prompts), args.k, args.length, 3)
        print(list(found)[-1], list(found.values())[-1], file=sys.stderr, flush=True)
    return found


def _peer(args: argparse.Namespace, script: str) -> list[Any]:
    python = args.peer_python or interpreter(args.peer_env, HERE / "trl.txt")
    return [python, HERE / "peers" / f"{script}.py"]


def _run(command: list[Any]) -> dict[str, Any]:
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"{command[1]} ended with exit code {done.returncode}; what it said is above", file=sys.stderr)
        return {}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _rate(found: dict[str, Any]) -> dict[str, Any]:
    if not found:
        return {}
    median = float(np.median(found["seconds"]))
    rest = {k: v for k, v in found.items() if k not in ("seconds", "losses", "pairs")}
    spread = [round(found["pairs"] / s, 1) for s in (max(found["seconds"]), min(found["seconds"]))]
    return {"pairs/s": round(found["pairs"] / median, 1), "range": spread, **rest}


def _tell(name: str, what: str, found: dict[str, Any]) -> None:
    shown = {k: round(v, 6) if isinstance(v, float) else v for k, v in found.items()}
    print(f"{name} | {what} | {json.dumps(shown)}", flush=True)


if __name__ == "__main__":
    _main()
