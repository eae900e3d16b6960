"""report.html of a run about videos: how it went, what the reward likes, how it matches, and where the answers went."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from embodied import atomic
from embodied.rapl import Rapl
from embodied.records import Array
from embodied.transport import entropy
from embodied.videos import padding
from human_ui.clips import encode
from policies import film_reward
from policies.encoders import embed
from rapport.drawing import themed
from rapport.html import THEME, details, escape, facts, figure, grid, note, page, section, svg, table
from rapport.run import RunError, read_json
from rapport.train.report import BUDGET, settings_told
from rapport.visual import pool
from rapport.visual.asking import shown
from rapport.visual.folder import DEMOS, POOL, REWARD
from rapport.visual.pool import Video
from rapport.visual.training import CLIPS, FEATURES

FEW = 3  # clips of a kind
FPS = 10

TITLES = {
    "rapl": "Rankings aligned a representation; the reward is transport to demonstrations in it",
    "raw": "The reward is transport to demonstrations in a representation that nobody aligned",
    "published": "Rankings aligned a representation by the published objective; the reward is transport in it",
    "cloning": "The reward is transport to demonstrations in a representation that tells what was done in them",
    "cycles": "The reward is transport to demonstrations in a representation in which cycles through them lead back",
    "frames": "A network that pays each frame",
    "released": "A network that pays each frame, by the recipe of RAPL's released code",
    "video": "A network that sees whole videos",
    "true": "The environment's own reward",
}


def write_report(folder: Path) -> Path:
    """Writes report.html into the folder of a finished run. Raises RunError where its files are missing or damaged."""
    config, result = (read_json(folder / f"{name}.json") for name in ("config", "result"))
    about = config["env"] or Path(config["videos"]).name
    parts = [
        f'<p class="eyebrow">{escape(about)} · {escape(result["method"])} · seed {config["seed"]}</p>',
        f"<h1>{escape(_title(config, result))}</h1>",
        f'<p class="lead">{escape(_lead(config, result))}</p>',
        *(note(escape(warning)) for warning in result["warnings"]),
    ]
    if config["env"]:
        parts.append(section("How it went", *_curves(read_json(folder / "rounds.json"))))
        if clips := sorted((folder / CLIPS).glob("policy-*.mp4")):
            drawn = [figure(_playing(path.read_bytes()), f"episode {n + 1}") for n, path in enumerate(clips)]
            parts.append(section("What the policy does", grid(drawn, 14)))
    if "worth" in result:
        parts += _learned(folder, config, result)
    parts.append(section("Settings and versions", settings_told(config, result)))
    target = folder / "report.html"
    try:
        atomic.write(target, page(f"Rapport: {folder.name}", parts).encode())
    except OSError as error:
        raise RunError(atomic.explain(error, target)) from error
    return target


def _title(config: dict[str, Any], result: dict[str, Any]) -> str:
    if config["env"]:
        return f"True return {result['return_before']:.4g} before, {result['return_after']:.4g} after"
    return f"{len(result['worth'])} videos, judged by {result['budget']['answered']} answers"


def _lead(config: dict[str, Any], result: dict[str, Any]) -> str:
    told = [f"{TITLES[config['reward']]}."]
    if config["reward_from"]:
        told = [f"The reward ({result['method']}) was learned before, in {config['reward_from']}."]
    if "budget" in result:
        who = "People" if "asked" in config else f"A simulated person ({config['teacher']})"
        spent = result["budget"]
        told.append(f"{who} ranked three videos in each of {spent['answered']} of {spent['asked']} questions.")
    if config["env"]:
        after = f" and {result['success_after']:.0%} succeed" if result["success_after"] is not None else ""
        told.append(
            f"{result['steps']:,} steps; acting at random earns {result['return_at_random']:.4g}. Judged on "
            f"{len(result['returns_after'])} fixed episodes, by which nothing is chosen{after}."
        )
        told.append(f"A run that is stopped {'goes on exactly' if result['exact'] else 'begins new episodes'}.")
    return " ".join(told)


def _curves(rows: list[dict[str, Any]]) -> list[str]:
    def against(key: str, label: str) -> str:
        def draw(f: Figure) -> None:
            axes, x = f.add_subplot(), [row["steps"] for row in rows]
            if key == "return":
                low, high = np.quantile([row["returns"] for row in rows], (0.1, 0.9), axis=1)
                axes.fill_between(x, low, high, color=THEME["after"], alpha=0.15, linewidth=0)
            axes.plot(x, [row[key] for row in rows], color=THEME["after"], marker="o", markersize=3)
            axes.set(xlabel="environment steps", ylabel=label)

        return figure(svg(themed(4.2, 2.8, draw), f"{label} against steps"))

    names = {"return": "true return", "success": "share that succeeds", "worth": "what the film is worth"}
    drawn = [against(key, label) for key, label in names.items() if rows[-1][key] is not None]
    return [grid(drawn, 18), "<p class='muted'>The line is the mean, the band holds 80 % of the episodes.</p>"]


def _learned(folder: Path, config: dict[str, Any], result: dict[str, Any]) -> list[str]:
    reward = film_reward.load(folder / REWARD)
    worth: dict[str, float] = result["worth"]
    order = sorted(worth, key=lambda name: -worth[name])
    demos = _demos(folder, config, result)
    best, worst = (
        [pool.read(folder / POOL, name) for name in names] for names in (order[:FEW], order[: -FEW - 1 : -1])
    )
    parts = [
        section(
            "What the reward likes",
            "<h3>Demonstrations</h3>",
            grid([_clip(video, "" if config["demos"] else video.name) for video in demos], 10),
            "<h3>Best of the videos by the reward</h3>",
            grid([_clip(video, f"{video.name}: {worth[video.name]:.3f}") for video in best], 14),
            "<h3>Worst</h3>",
            grid([_clip(video, f"{video.name}: {worth[video.name]:.3f}") for video in worst], 14),
            details(
                f"All {len(order)} videos",
                table(["video", "worth"], [[escape(name), f"{worth[name]:.4f}"] for name in order], numbers=[1]),
                shown=not config["env"],
            ),
        )
    ]
    if isinstance(reward.model, Rapl):
        cache = folder / FEATURES
        seen = [embed(reward.trunk, [video.frames], cache)[0] for video in (_apart(best, demos), worst[0])]
        parts.append(section("How videos are matched", *_plans(reward.model, seen)))
    spent = [(BUDGET[k], str(result["budget"][k])) for k in BUDGET]
    share, low, high = result["agreement"]
    agreed = (
        "too few to say" if share is None else f"{share:.0%}" + ("" if low is None else f" [{low:.0%}, {high:.0%}]")
    )
    held = f"{agreed}, of {result['agreement_rankings']} rankings of {result['agreement_questions']} questions"
    learned = f"{result['learned_from']}, of {result['questions_learned_from']} questions"
    said = [
        ("rankings that were learned from", learned if result["learned_from"] else "none: it looks at no answer"),
        (
            "pairs ordered as in rankings" + " of questions held out, in folds" * bool(result["learned_from"]),
            held,
        ),
    ]
    if result["correlation"] is not None:
        said.append(("rank correlation with the true return, over all videos", f"{result['correlation']:.2f}"))
    parts.append(section("Where the questions went", facts([*spent, *said])))
    return parts


def _demos(folder: Path, config: dict[str, Any], result: dict[str, Any]) -> list[Video]:
    if config["demos"]:
        return [pool.read(folder / DEMOS, name) for name in result["demos"][: 2 * FEW]]
    return [pool.read(folder / POOL, name) for name in result["demos"]]


def _apart(best: Sequence[Video], demos: Sequence[Video]) -> Video:
    """The best that is no demonstration itself."""
    names = {video.name for video in demos}
    return next((video for video in best if video.name not in names), best[0])


def _plans(model: Rapl, seen: Sequence[Array]) -> list[str]:
    """Plans between the nearest demonstration and a video that the reward likes, and one that it does not."""
    plans, cost = model.plans(*padding(seen))
    near = (plans * cost).sum((-2, -1)).argmin(1)
    drawn = []
    for n, what in enumerate(("the best video", "the worst")):
        plan = plans[n, near[n]][: len(seen[n])][:, model.there[near[n]]]
        spread = float(entropy(plan)) / float(np.log(plan.numel())) if plan.numel() > 1 else 1.0

        def draw(f: Figure, plan: torch.Tensor = plan) -> None:
            axes = f.add_subplot()
            axes.grid(visible=False)
            axes.imshow(plan.numpy(), cmap="magma", aspect="auto")
            axes.set(xlabel="frame of the demonstration", ylabel="frame of the video")

        drawn.append(
            figure(
                svg(themed(3.6, 3.0, draw), f"Transport plan of {what}"),
                f"A demonstration and {what}: entropy {spread:.2f} of the most even plan's.",
            )
        )
    return [grid(drawn, 18)]


def _clip(video: Video, caption: str) -> str:
    return figure(_playing(encode(shown(video.frames), fps=FPS)), escape(caption))


def _playing(clip: bytes) -> str:
    data = base64.b64encode(clip).decode()
    return f'<video controls muted loop autoplay playsinline src="data:video/mp4;base64,{data}"></video>'
