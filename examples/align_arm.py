"""The main job's arm, aligned without a reward model: a policy's folder, answers, `rapport align`, a folder again.

The policy was cloned from people of whom seven in ten hurry: straight over the laptop, the cup leant. From each start
it is let do the task twice, with its own noise; a simulated person who wants the cup upright and around the laptop says
which they like better, with a slip now and then. It takes a minute or two.

    python examples/align_arm.py [DIR [PAIRS]]        the policies and the data folder stay in DIR
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from embodied.episodes import Episode, cut
from embodied.records import Query
from embodied.teachers import answer, noisy
from policies.export import export
from rapport.beside import own_episodes
from rapport.beside_arm import LAPSE, arm
from rapport.cli import main as rapport
from rapport.cup.handover import agreed, cartesian
from rapport.cup.people import CAREFUL
from rapport.cup.train import TEMPERATURE
from rapport.data_folder import open_folder


def prepare(folder: Path, pairs: int, seed: int = 0) -> None:
    """A policy as the main job leaves one, in `folder/before`, and what somebody said of its episodes in `data`."""
    ground = arm(seed)
    policy = ground.policy
    mean, std = (tuple(x.tolist()) for x in (policy.obs_mean, policy.obs_std))
    contract = replace(agreed("none: it imitates people of whom seven in ten hurry"), mean=mean, std=std)
    export(folder / "before", policy.layers(), cartesian(), contract)

    obs, act = own_episodes(ground, pairs, 2, np.random.default_rng(seed))
    person = noisy(CAREFUL.utility, seed=seed, temperature=TEMPERATURE, lapse=LAPSE)
    with open_folder(folder / "data", make=True) as store:
        queries = []
        for i in range(pairs):
            both = [Episode(f"start-{i:03d}-{k}", obs[i, k], act[i, k], terminated=True) for k in (0, 1)]
            store.episodes.save(both)
            queries.append(Query(f"question-{i:03d}", tuple(cut(episode, 0, len(episode)) for episode in both)))
        store.add_queries(queries)
        store.add_answers([answer(person, query, CAREFUL.name) for query in queries])


def main() -> int:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="align-arm-"))
    if not (out / "data").exists():
        prepare(out, int(sys.argv[2]) if len(sys.argv) > 2 else 600)
    commands = (
        ["evaluate", f"{out}/before"],
        ["align", "--data", f"{out}/data", "--policy", f"{out}/before", "--method", "dpo", "--out", f"{out}/run"],
        ["evaluate", f"{out}/run/policy"],
    )
    for command in commands:
        print(f"\n$ rapport {' '.join(command)}", flush=True)
        if code := rapport(command):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
