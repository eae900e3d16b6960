"""A policy server as the arm's policy, in the form of `policies.wire`: asked for a new chunk when half of one is left,
or as often as it wants to be.

The daemon is the one that follows, and decides by its own clock what of a chunk is past. Nothing here can hold it up:
while a server hangs the path ends, and the daemon stops the arm; one that drops its connection, is silent for too long
or makes no sense is not asked any more, and the arm is stopped. After that somebody has to start again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from embodied.contract import Contract, ContractError, parse
from hardware.cameras import CameraFault
from hardware.chunks import MOST_STEPS, Chunk
from hardware.config import Config
from hardware.contracts import objections
from hardware.gateway.cameras import Watch
from hardware.gateway.daemon import Daemon, Gone
from hardware.link import Ask, Seen, Snapshot, Stop
from policies import wire

FIRST_SECONDS, ANSWER_SECONDS = 5.0, 1.0
"""For a server to say what it is, and to answer: an observation that is older is not followed anyway."""


class PolicyError(RuntimeError):
    """A server that cannot be the arm's policy; the sentence says why, and the mend."""


@dataclass(frozen=True)
class Server:
    """address: ws:// or wss://. contract: of a server that says none itself, the text of a contract.json."""

    address: str
    token: str = ""
    contract: str = ""


@asynccontextmanager
async def entered(server: Server) -> AsyncIterator[tuple[ClientConnection, str, int]]:
    """The connection, the text of the policy's contract, and after how many steps of a chunk it wants to be asked
    again, 0 for half of them. Raises PolicyError."""
    headers = {"Authorization": f"Api-Key {server.token}"} if server.token else {}
    entering = connect(
        server.address,
        additional_headers=headers,
        compression=None,
        max_size=wire.MOST_BYTES,
        open_timeout=FIRST_SECONDS,
        close_timeout=1.0,
        proxy=None,
    )
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(entering)
        except (OSError, ValueError, TimeoutError, WebSocketException) as error:
            raise PolicyError(f"{server.address} is no policy server, or wants another token ({error})") from error
        try:
            told = wire.unpack(_bytes(await asyncio.wait_for(connection.recv(), FIRST_SECONDS)))
        except (TimeoutError, WebSocketException, wire.WireError) as error:
            raise PolicyError(f"{server.address} does not say what it is ({error})") from error
        contract = told.get("contract", "") or server.contract
        if not isinstance(contract, str) or not contract:
            raise PolicyError(f"{server.address} says no contract; start the robot with --contract FILE for it")
        every = told.get("every", 0)
        yield connection, contract, every if isinstance(every, int) and 0 < every <= MOST_STEPS else 0


def agreed(config: Config, snapshot: Snapshot, text: str, can: Collection[str] | None = None) -> Contract:
    """The policy's contract, if this robot can keep it now. Raises PolicyError that names all that it cannot."""
    try:
        contract = parse(text, "the policy's contract")
    except ContractError as error:
        raise PolicyError(str(error)) from error
    if wrong := objections(config, contract, can, snapshot.scene):
        raise PolicyError("the policy cannot act here: " + "; ".join(wrong))
    return contract


async def start(
    config: Config,
    daemon: Daemon,
    watch: Watch,
    server: Server,
    lease: str,
    task: str,
    told: Callable[[str], object],
) -> asyncio.Task[None]:
    """Has the daemon start, and follows until it no longer runs; told: what happens, a sentence each, "" when over.

    Raises PolicyError, and Gone as the daemon does: then nothing has begun.
    """
    begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def whole() -> None:
        try:
            async with entered(server) as (connection, text, every):
                snapshot = daemon.snapshot
                if snapshot is None:
                    raise PolicyError(daemon.why)
                contract = agreed(config, snapshot, text, daemon.hello.can if daemon.hello else None)
                if (amiss := watch.amiss(contract.cameras)) is not None:
                    raise PolicyError(amiss.sentence)
                reply = await daemon.ask(Ask("start", lease, task, text))
                if reply.refused:
                    raise PolicyError(reply.refused)
                begun.set_result(None)
                told("the policy leads")
                told(await follow(config, daemon, watch, connection, contract, every, lease, task))
        except Exception as error:
            if begun.done():
                sentence = f"the policy is not asked any more: {error}"
                told(sentence)
                with suppress(Gone):
                    daemon.say(Stop(2, "", sentence))
            else:
                begun.set_exception(error)

    task_of = asyncio.create_task(whole(), name="policy")
    try:
        await begun
    except asyncio.CancelledError:
        task_of.cancel()
        raise
    return task_of


async def follow(
    config: Config,
    daemon: Daemon,
    watch: Watch,
    connection: ClientConnection,
    contract: Contract,
    every: int,
    lease: str,
    task: str,
) -> str:
    """Until the arm no longer runs; returns why. Raises PolicyError where the server fails."""
    began, ends, last, refused = -1, 0, -1, 0
    early = round(0.5e9 / config.limits.rate)  # the nearest tick, or every look would be one late
    while True:
        snapshot = await daemon.after(last)
        if snapshot is None or snapshot.seq == last:
            return daemon.why if snapshot is None else "the daemon is silent"
        last = snapshot.seq
        if snapshot.mode != "RUNNING":
            return "" if began >= 0 else f"the arm is in {snapshot.mode}"
        began = snapshot.time_ns if began < 0 else began
        if (fault := watch.amiss(contract.cameras)) is not None:
            _paused(daemon, fault)
            continue
        if snapshot.time_ns + early < ends or snapshot.missed:
            continue
        answer = await _ask(
            connection, _observation(snapshot, contract, watch, task, (snapshot.time_ns - began) * 1e-9)
        )
        chunk = _chunk(answer, lease, snapshot, contract, len(config.limits.names))
        reply = await daemon.ask(chunk)
        if reply.refused:
            refused += 1
            if refused == 3:
                raise PolicyError(reply.refused)
            continue
        refused = 0
        ends = snapshot.time_ns + chunk.dt_ns * (every or max((len(chunk.actions) - 1) // 2, 1))
        saw, said = (_numbers(answer.get(name)) for name in ("obs", "act"))
        daemon.say(Seen(lease, snapshot.seq, saw if len(saw) else _raw(snapshot, contract, began), said))


def _paused(daemon: Daemon, fault: CameraFault) -> None:
    """The policy is not asked; with the path at its end the daemon stops the arm, and here it is told to at once."""
    if fault.stop:
        daemon.say(Stop(2, "", fault.sentence))


async def _ask(connection: ClientConnection, observation: dict[str, Any]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await connection.send(wire.pack(observation))
            return wire.unpack(_bytes(await connection.recv()))
    except TimeoutError:
        raise PolicyError(f"the policy server has not answered within {ANSWER_SECONDS:g} s") from None
    except (OSError, WebSocketException) as error:
        raise PolicyError(f"the policy server is gone ({error})") from None
    except wire.WireError as error:
        raise PolicyError(f"the policy server makes no sense: {error}") from None


def _bytes(message: str | bytes) -> bytes:
    if isinstance(message, str):
        raise PolicyError(f"the policy server says: {message[:500]}")
    return message


def _observation(snapshot: Snapshot, contract: Contract, watch: Watch, task: str, seconds: float) -> dict[str, Any]:
    scene = {f"{wire.SCENE}{name}": np.array(values) for name, values in snapshot.scene.items()}
    seen = {f"observation/{name}": picture for name, picture in watch.pictures(contract.cameras).items()}
    joints = {wire.STATE: snapshot.position, wire.COMMAND: snapshot.command}
    if np.isfinite(snapshot.velocity).all():  # not every arm measures any
        joints[wire.VELOCITY] = snapshot.velocity
    return {**joints, wire.CLOCK: seconds, **scene, **seen, "prompt": task}


def _chunk(answer: Mapping[str, Any], lease: str, snapshot: Snapshot, contract: Contract, n: int) -> Chunk:
    """Raises PolicyError for what is no chunk at all; what is in it is for the daemon to judge."""
    actions = answer.get("actions")
    if not isinstance(actions, np.ndarray) or actions.ndim != 2 or not 0 < len(actions) <= MOST_STEPS:
        raise PolicyError(f"the policy server's actions are {str(actions)[:100]}; they have to be [H,{n}]")
    dt_ns = round(1e9 / contract.rate)
    return Chunk(lease, 0, snapshot.seq, snapshot.time_ns, dt_ns, actions.astype(np.float64))


def _numbers(value: Any) -> Any:
    found = np.asarray(value if value is not None else (), np.float64)
    return found if found.ndim == 1 and np.isfinite(found).all() else np.zeros(0)


def _raw(snapshot: Snapshot, contract: Contract, began: int) -> Any:
    """What a server that does not say what it saw was sent: the numbers of it, in the order of its contract; none where
    the contract names what is made of them in a way that only the server knows."""
    known = {"rad": snapshot.position, "rad/s": snapshot.velocity}
    units = [source.unit for source in contract.observation if source.origin == "joint"]
    parts: list[Any] = []
    for source in contract.observation:
        if source.origin == "joint" and source.unit in known and units.count(source.unit) == 1:
            parts.append(known[source.unit][: source.size])
        elif source.origin == "scene":
            parts.append(snapshot.scene[source.name])
        elif source.origin == "clock":
            parts.append([(snapshot.time_ns - began) * 1e-9])
        else:
            return np.zeros(0)
    return np.concatenate(parts)
