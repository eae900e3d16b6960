"""A policy server: a trained policy behind a WebSocket, for whoever has its token, in the form of `policies.wire`.

It may run on any machine that has the policy, and reads no clock of the robot's: an answer is about the observation
that was asked about, its first action for the very time of that, each next one a control period later. So whoever asked
may drop what is past when the answer comes.
"""

from __future__ import annotations

import hmac
import http
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection
from websockets.sync.server import serve as listen

from embodied import contract as contracts
from embodied.contract import Contract, ContractError
from policies import observer, wire
from policies.export import ExportedPolicy

Array = Any
Infer = Callable[[Mapping[str, Any]], dict[str, Any]]
STEPS = 8
"""Of a chunk, unless told: at 20 Hz, 0.4 s."""
MOST_CLIENTS = 4
PUSH_SECONDS, PUSH_MEMORY = 1.0, 0.6
"""For how long from its start an episode is pushed, and after how many seconds a push is another one (to 1/e)."""


@dataclass(frozen=True)
class Served:
    """contract: in the robot's terms. begin: what answers one connection, with a memory of its own."""

    contract: Contract
    begin: Callable[[], Infer]


def exported(policy: ExportedPolicy, steps: int = STEPS, push: float = 0.0, seed: int = 0) -> Served:
    """The policy rolled out by its own chain: each step as if the arm had gone where the step before said. The path
    begins where the arm is told to be, and not where it is: it lags behind, and would be told to go back at every look.

    push: deviation of a slowly changing noise on what the policy says in an episode's first second. Of a policy that
    always does the same nobody can say what would be better; of two that were pushed apart they can, and what it does
    after that is its own. seed: of the pushes of all episodes.

    Raises ContractError for a policy that was exported without the parts of its observation.
    """
    agreed, parts, cartesian = policy.contract, policy.parts, policy.cartesian
    if not parts:
        raise ContractError("the policy does not say how its observation is made of what a robot has; export it again")

    low, high = (np.array([getattr(joint, name) for joint in agreed.joints]) for name in ("lower", "upper"))
    seeds = np.random.SeedSequence(seed)

    def begin() -> Infer:
        said, since = [np.zeros(5)], 0.0
        pushes = push * pushed(agreed.rate, np.random.default_rng(seeds.spawn(1)[0]))

        def says(saw: Array, k: int) -> Array:
            act = policy.act(saw)
            return np.clip(act + pushes[k], -1.0, 1.0) if push and k < len(pushes) else act

        def infer(message: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal said, since
            raw = _raw(message)
            late = round((raw.seconds - since) * agreed.rate)
            last = said[min(late, len(said) - 1)] if late >= 0 else np.zeros(5)
            joints, velocities = raw.joints, raw.velocities
            path, acts, now = [joints], [last], round(raw.seconds * agreed.rate)
            saw = observer.observe(
                parts, agreed, observer.Raw(joints, velocities, raw.scene, raw.seconds, last), cartesian
            )
            first = saw
            for step in range(1, steps + 1):
                acts.append(says(saw, now + step - 1))
                aim = policy.reached(acts[-1], joints)
                joints, velocities = aim, (aim - joints) * agreed.rate
                path.append(joints)
                if step < steps:
                    at = observer.Raw(joints, velocities, raw.scene, raw.seconds + step / agreed.rate, acts[-1])
                    saw = observer.observe(parts, agreed, at, cartesian)
            said, since = acts, raw.seconds
            ahead = np.clip(np.stack(path) + (_command(message, raw) - raw.joints), low, high)
            return {"actions": ahead, "obs": first, "act": np.asarray(acts[1], np.float64)}

        return infer

    return Served(observer.asked(parts, agreed), begin)


def pushed(rate: float, rng: np.random.Generator) -> Array:
    """[K,5] of the first second at that rate, of unit variance: an autoregression of first order."""
    memory = np.exp(-1 / (rate * PUSH_MEMORY))
    found = [rng.standard_normal(5)]
    while len(found) < round(PUSH_SECONDS * rate):
        found.append(memory * found[-1] + np.sqrt(1 - memory**2) * rng.standard_normal(5))
    return np.stack(found)


def agent(file: Path, algorithm: str, folder: Path, steps: int = STEPS) -> Served:
    """An agent that stable-baselines3 saved, whose actions are joint positions in rad; `folder` has its contract.json.
    Such a file holds pickles, which can do anything when they are read: open your own only.

    Raises ContractError for a contract that a robot cannot fill, ValueError for another algorithm or a file of another.
    """
    import stable_baselines3

    agreed = contracts.read(folder)
    if agreed.action != "joint_position":
        raise ContractError(f"the contract's action is {agreed.action}; a robot is sent joint_position")
    parts = observer.plain(agreed)
    kind: Any = getattr(stable_baselines3, algorithm, None)
    if not hasattr(kind, "load"):
        raise ValueError(f"stable-baselines3 has no {algorithm!r}; name one of its algorithms, such as PPO or SAC")
    try:
        loaded = kind.load(file, device="cpu")
    except Exception as error:  # whatever a foreign archive makes of it
        raise ValueError(
            f"{file} is no agent of {algorithm} ({type(error).__name__}: {error}); name another"
        ) from error
    size, n = len(agreed.mean), len(agreed.joints)
    if loaded.observation_space.shape != (size,) or loaded.action_space.shape != (n,):
        raise ContractError(
            f"the agent acts with {loaded.action_space.shape} on {loaded.observation_space.shape}, its contract says "
            f"({n},) on ({size},); give the contract it was trained for"
        )
    low, high = (np.array([getattr(joint, name) for joint in agreed.joints]) for name in ("lower", "upper"))
    mean, std = np.asarray(agreed.mean, np.float32), np.asarray(agreed.std, np.float32)

    def begin() -> Infer:
        last = np.zeros(n)

        def infer(message: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal last
            raw = _raw(message)
            last = last if raw.seconds else np.zeros(n)
            saw = observer.observe(
                parts, agreed, observer.Raw(raw.joints, raw.velocities, raw.scene, raw.seconds, last)
            )
            act, _ = loaded.predict((saw - mean) / std, deterministic=True)
            last = np.asarray(act, np.float64)
            aim = np.clip(last, low, high)
            return {"actions": np.stack([_command(message, raw), *[aim] * steps]), "obs": saw, "act": last}

        return infer

    return Served(observer.asked(parts, agreed), begin)


@contextmanager
def serving(served: Served, token: str, port: int = 0, host: str = "127.0.0.1") -> Iterator[Server]:
    """Serves in threads until it is left; `server.socket` says where. Raises OSError where the port is taken."""
    metadata = wire.pack({"contract": to_text(served.contract), "rate": served.contract.rate, "every": 1})
    room = threading.BoundedSemaphore(MOST_CLIENTS)

    def entering(connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("api-key", "bearer") or not hmac.compare_digest(given.encode(), token.encode()):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "The token is missing, or another.\n")
        return None

    def answer(connection: ServerConnection) -> None:
        if not room.acquire(blocking=False):
            connection.close(1013, "too many clients")
            return
        try:
            connection.send(metadata)
            infer = served.begin()
            for message in connection:
                try:
                    if isinstance(message, str):
                        raise wire.WireError("a text came; send msgpack")
                    began = time.perf_counter()
                    answer = infer(wire.unpack(message))
                    answer["server_timing"] = {"infer_ms": 1e3 * (time.perf_counter() - began)}
                    connection.send(wire.pack(answer))
                except (ValueError, TypeError, KeyError) as error:
                    connection.send(f"{error}")
        except ConnectionClosed:
            return
        finally:
            room.release()

    server = listen(
        answer,
        host,
        port,
        process_request=entering,
        origins=[None],  # no page of a browser
        compression=None,
        max_size=wire.MOST_BYTES,
    )
    thread = threading.Thread(target=server.serve_forever, name="policy server", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(timeout=5)


def to_text(contract: Contract) -> str:
    """As `embodied.contract.parse` reads it."""
    return json.dumps(asdict(contract), allow_nan=False)


def _command(message: Mapping[str, Any], raw: observer.Raw) -> Array:
    """Where the arm is told to be; of a robot that does not say it, where it is."""
    found = np.asarray(message.get(wire.COMMAND, raw.joints), np.float64)
    if found.shape != raw.joints.shape or not np.isfinite(found).all():
        raise ValueError(f"{wire.COMMAND} is {found}; send {raw.joints.size} finite numbers")
    return found


def _raw(message: Mapping[str, Any]) -> observer.Raw:
    """What a robot sent. Raises ValueError that names what is missing."""
    if missing := [name for name in (wire.STATE, wire.CLOCK) if name not in message]:
        raise ValueError(f"the observation lacks {', '.join(missing)}")
    numbers = {
        name: np.asarray(value, np.float64)
        for name, value in message.items()
        if name in (wire.STATE, wire.VELOCITY, wire.CLOCK) or name.startswith(wire.SCENE)
    }
    clock = numbers[wire.CLOCK]
    if clock.shape != () or not np.isfinite(clock) or clock < 0:
        raise ValueError(f"{wire.CLOCK} is {clock}; send the seconds since the start")
    scene = {name.removeprefix(wire.SCENE): value for name, value in numbers.items() if name.startswith(wire.SCENE)}
    none = np.full(numbers[wire.STATE].shape, np.nan)
    return observer.Raw(numbers[wire.STATE], numbers.get(wire.VELOCITY, none), scene, float(clock), np.zeros(0))
