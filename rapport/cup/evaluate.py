"""`rapport evaluate RUN`: a run's kept policy, or any exported one, on layouts that nothing was chosen by."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from embodied import contract
from envs.arm_render import GL_INSTALL_LINE, gl
from rapport.console import say
from rapport.cup.agent import held_out
from rapport.cup.clips import SHOWN, render_before_after
from rapport.cup.demo import whose
from rapport.cup.features import step_features
from rapport.cup.finished import Finished, open_finished, open_policy
from rapport.cup.measure import Measured, measure
from rapport.cup.people import PEOPLE

if TYPE_CHECKING:
    from rapport.cli import Evaluate

MOST = 10_000


def evaluate(options: Evaluate) -> int:
    """Raises ValueError (RunError for the folder) in a sentence."""
    if not 1 <= options.episodes <= MOST:
        raise ValueError(f"{options.episodes} episodes cannot be rolled out: give --episodes from 1 to {MOST}.")
    torch.set_num_threads(1)
    alone = (options.run / contract.FILE).exists()
    run = open_policy(options.run, options.person) if alone else open_finished(options.run)
    with tqdm(total=options.episodes, unit=" episodes", file=sys.stderr, dynamic_ncols=True) as bar:
        found = look(run, options.episodes, bar.update)
    if alone:
        pass  # clips show what a run changed
    elif options.clips and gl() is None:
        say(f"No clips: this machine has no OpenGL to draw them. {GL_INSTALL_LINE}")
    elif options.clips:
        render_before_after(options.run, "clips-evaluate", min(SHOWN, options.episodes))
    print(json.dumps(found) if options.json else "\n".join(lines(run, found)))
    return 0


def look(run: Finished, episodes: int, progress: Callable[[int], object] = lambda n: None) -> dict[str, Any]:
    """What --json prints. Shares are in [0, 1] with a Clopper-Pearson 95 % interval; `task_return` is the task's own
    reward summed over an episode, `learned_utility` the learned reward's, in log-odds (None where none was learned)."""
    rollouts = run.roll_out(run.after, held_out(run.settings.seed, episodes), progress)
    seen = measure(PEOPLE[run.settings.person], rollouts)
    utility = None
    if run.reward is not None:
        episodes_of = zip(rollouts.obs, rollouts.act, strict=True)  # one at a time: features are many times their size
        totals = [step_features(obs.astype(float), act.astype(float)).sum(0) for obs, act in episodes_of]
        utility = float(run.reward.value(np.array(totals)).mean())
    return {
        "run": str(run.folder),
        "episodes": episodes,
        "task_return": float(rollouts.returns.mean()),
        "learned_utility": utility,
        "wishes": _share(seen, seen.wishes),
        "each": {name: _share(seen, share) for name, share in seen.each.items()},
        "task": _share(seen, seen.task),
        "both": _share(seen, seen.both),
        "whole_cup": _share(seen, seen.whole_cup),
        "tilt": seen.tilt,
        "path": seen.path,
    }


def _share(seen: Measured, share: float) -> dict[str, float]:
    low, high = seen.interval(share)
    return {"share": share, "low": low, "high": high}


def lines(run: Finished, found: dict[str, Any]) -> list[str]:
    """The table for the eye."""
    shares = [("every wish", found["wishes"]), *((f"  {name}", share) for name, share in found["each"].items())]
    shares += [("task done", found["task"]), ("wishes and task", found["both"])]
    shares += [("cup's rim clear too", found["whole_cup"])]
    out = [f"{run.folder}, {found['episodes']} layouts nothing was chosen by. {whose(run.settings)}", ""]
    out += [f"  {name:22}{s['share']:>7.1%}   95 %: {s['low']:.1%} to {s['high']:.1%}" for name, s in shares]
    out += [f"  {'return of the task':22}{found['task_return']:>7.2f}"]
    if found["learned_utility"] is not None:
        out += [f"  {'learned utility':22}{found['learned_utility']:>7.2f}   log-odds of being preferred, per episode"]
    out += [f"  {'mean tilt':22}{found['tilt']:>6.1f}°", f"  {'path':22}{found['path']:>7.2f} m"]
    return out
