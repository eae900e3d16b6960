"""The command line. Each verb is a dataclass: its fields are the flags, the text under a field is its help, and a call
carries it out. What a verb needs is imported only there, so that help and tables appear at once.
"""

from __future__ import annotations

import json as json_format
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rapport.align.verb import Align
from rapport.data import Data
from rapport.lm.verb import Learning, Lm
from rapport.robot.verb import Robot
from rapport.shadow import OURS, check_imports

Flag = tyro.conf.FlagCreatePairsOff[bool]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]


@dataclass(frozen=True)
class Demo:
    """The main job: an arm learns from a hundred answers how a person wants a full cup carried."""

    seed: int = 0
    """Of everything that is drawn: layouts, questions, the simulated person's slips, training."""
    person: Literal["careful", "short"] = "careful"
    """Who answers. careful: upright and around the laptop. short: upright and the short way."""
    answers: int = 100
    """How many questions may be asked in all."""
    ask: Flag = False
    """Ask you, on a page in the browser, instead of a simulated person."""
    terminal: Flag = False
    """With --ask: ask in this terminal; each question is one clip file to look at."""
    out: Folder = None
    """The run's folder, in which the same command resumes; by default one under runs/, named by the settings."""
    json: Flag = False
    """Print one JSON object last: answers, wishes and task before and after, seconds without clips and report."""
    clips: bool = True
    """Render the clips of the report; training and the verdict need no picture."""
    reward: Literal["learned", "true", "none"] = "learned"
    """What the arm is trained on. learned: by the answers. true: the hidden one, a ceiling. none: the task alone."""
    coin: Flag = False
    """Answer every question by the toss of a coin: the control that has to miss."""

    def __call__(self) -> int:
        from rapport.cup.demo import demo

        return demo(self)


@dataclass(frozen=True)
class Train:
    """Learn a reward and a policy from answers about clips or videos: in any Gymnasium environment, or off-line."""

    env: Annotated[str | None, tyro.conf.arg(metavar="ID", help_behavior_hint="")] = None
    """An id that Gymnasium knows (Reacher-v5, FetchReach-v4, ...), or module:Class or file.py:Class of your own, and
    perhaps arguments: module:Class,task=covering,size=96."""
    data: Folder = None
    """Instead of an environment: a folder of episodes and answers (`rapport data import`), learned from off-line."""
    method: Literal["ensemble", "pebble", "surf", "rune", "transformer", "true"] = "pebble"
    """How answers become a reward and a reward behaviour. true: the environment's own reward, which asks nobody."""
    preference: Literal["return", "regret", "cpl"] = "return"
    """What people compare. return: sums of rewards. regret: how far each falls short of the best that could be done.
    cpl: how likely a good policy is to do each; then the policy is learned with no reward and no RL."""
    answers: int = 100
    """How many questions may be asked in all."""
    ask: Annotated[Path | None, tyro.conf.arg(metavar="STUDY", help_behavior_hint="")] = None
    """Ask people instead of a simulated teacher, in this study's folder; `rapport ask STUDY` serves it meanwhile."""
    store: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """With --ask: the study's PostgreSQL database, as `rapport ask` has it."""
    run: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """With --ask: the run's name in the study, which several may share; by default that of its folder."""
    patience: float = 30.0
    """With --ask: minutes without a new answer after which nobody is waited for any more."""
    kind: Literal["compare", "grade", "rank", "choose", "rate", "mark", "stop", "survey"] = "compare"
    """With --ask: how people judge clips. stop: where it should have stopped; then they choose among fresh ways on."""
    steps: int = 20_000
    """Environment steps, all copies together."""
    seed: int = 0
    """Of everything that is drawn."""
    teacher: Literal["oracle", "mistake", "noisy", "skip", "myopic", "equal"] = "oracle"
    """The simulated teacher, who judges by the environment's own reward, with the flaws of B-Pref's six."""
    tie_rate: float = 0.0
    """This share of the answers are ties, whatever the returns; 0.371 of 7,400 answers of people are."""
    judged_by: Literal["return", "regret"] = "return"
    """What the simulated teacher looks at. regret: by the critics of an agent that learned from the true reward."""
    expert: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """With --judged-by regret: the folder of that agent's run (--method true); by default one is trained first."""
    select: Annotated[
        Literal[
            "uniform",
            "disagreement",
            "entropy",
            "information",
            "k-centre",
            "disagreement+k-centre",
            "entropy+k-centre",
            "information+dpp",
            "information+medoids",
        ]
        | None,
        tyro.conf.arg(help_behavior_hint=""),
    ] = None
    """How questions are chosen; the method's own way unless told."""
    sessions: int = 10
    """Rounds of questions, evenly over the run."""
    schedule: Literal["constant", "decaying", "growing"] = "constant"
    """How many questions a round asks: always as many, fewer and fewer, or more and more."""
    recent: float = 1.0
    """Questions are about this share of the remembered episodes, the newest."""
    clip: int = 50
    """Steps of a clip; the whole episode where it is shorter. With --ask the study says how long clips are."""
    copies: int = 1
    """Copies of the environment side by side."""
    horizon: int = 0
    """A time limit for an environment that has none; 0: its own."""
    algorithm: Literal["auto", "sac", "ppo"] = "auto"
    """auto: sac for actions that are numbers, ppo for choices; with --reward ppo."""
    rate: float = 0.0
    """The agent's learning rate; 0: the algorithm's own."""
    reward: Annotated[
        Literal["rapl", "published", "raw", "cloning", "cycles", "frames", "released", "video", "true"] | None,
        tyro.conf.arg(help_behavior_hint=""),
    ] = None
    """A reward of whole videos. rapl: transport to demonstrations in what rankings aligned; published: by the paper's
    objective. raw: aligned by nobody. cloning, cycles: by a proxy, cloning with neither --demos nor --videos. frames,
    video: networks on the same answers; released: the paper's. true: the environment's own, for the same agent."""
    videos: Folder = None
    """A folder of videos that people rank; alone, or instead of films of --env."""
    demos: Folder = None
    """A folder of demonstrations; by default the best of what was ranked."""
    reward_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Pay what another run learned from videos, of this body or another; nobody is asked."""
    trunk: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "soft-argmax"
    """What sees. soft-argmax: learned here. Or timm's resnet18 and others, NAME[@SIDE][=WEIGHTS], or a saved trunk."""
    pay: Literal["sum", "drop"] = "sum"
    """When a video is paid. sum: when it ends. drop: what each picture adds, in sum the same, but learned worse."""
    frames: int = 0
    """About how many pictures are taken of an episode; 0: 20, or with --reward-from as many as that learned from."""
    pool: int = 300
    """How many episodes are filmed to be asked about."""
    cache: Folder = None
    """A folder in which runs share the trunks that they learn; by default each has its own."""
    bounds: tuple[float, float] = (-1.0, 1.0)
    """With --data: what the environment's actions lie between."""
    out: Folder = None
    """The run's folder, in which the same command resumes; by default one under runs/, named by the settings."""
    json: Flag = False
    """Print one JSON object last: returns before and after, where the questions went, seconds."""

    def __call__(self) -> int:
        from rapport.train.command import command

        return command(self)


@dataclass(frozen=True)
class Compare:
    """Methods, seeds and budgets side by side: interquartile means with intervals, profiles, one table, one figure."""

    envs: tuple[str, ...]
    """Environments, as `rapport train --env` takes them."""
    methods: tuple[
        Literal[
            "ensemble",
            "pebble",
            "surf",
            "rune",
            "transformer",
            "pebble-regret",
            "cpl",
            "rapl",
            "published",
            "raw",
            "cloning",
            "cycles",
            "frames",
            "released",
            "video",
            "true",
        ],
        ...,
    ] = (
        "ensemble",
        "pebble",
        "surf",
        "rune",
        "true",
    )
    """What is compared: rewards of clips, or of whole videos (rapl to video, see `rapport train --reward`). With true
    among them, scores are shares of what training on the true reward reaches."""
    budgets: tuple[int, ...] = (100,)
    """Numbers of answers."""
    seeds: int = 5
    """Seeds 0 to this less one, the same for every method."""
    steps: int = 20_000
    """Environment steps of every run."""
    clip: int = 50
    """Steps of a clip."""
    teacher: Literal["oracle", "mistake", "noisy", "skip", "myopic", "equal"] = "oracle"
    """Who answers."""
    sessions: int = 10
    """Rounds of questions."""
    copies: int = 1
    """Copies of the environment side by side, in each run."""
    horizon: int = 0
    """A time limit for environments that have none; 0: their own."""
    demos: Folder = None
    """Of rewards of videos: a folder of demonstrations; by default the best of what was ranked."""
    trunk: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "soft-argmax"
    """Of rewards of videos: what sees, as `rapport train --trunk` has it."""
    pay: Literal["sum", "drop"] = "sum"
    """Of rewards of videos: when one is paid."""
    frames: int = 0
    """Of rewards of videos: about how many pictures are taken of an episode; 0: 20."""
    pool: int = 300
    """Of rewards of videos: how many episodes are filmed to be asked about."""
    trials: Annotated[int, tyro.conf.arg(metavar="{0,2,3}")] = 0
    """Learning rates that are tried for every method alike, on a development seed, before it is compared."""
    workers: int = os.cpu_count() or 1
    """Runs side by side."""
    out: Path = Path("runs/compare")
    """The comparison's folder; the same command goes on in it, and further seeds or budgets are added."""
    json: Flag = False
    """Print one JSON object last."""

    def __call__(self) -> int:
        from rapport.compare.command import command

        return command(self)


@dataclass(frozen=True)
class Ask:
    """Ask people: a page in the browser, invitations, and the owner's view of how it goes."""

    study: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STUDY")]
    """The study's folder; a new one gets a study.toml that says what can be set."""
    invite: tuple[str, ...] = ()
    """New people, by names of your choice; each gets a link, which is shown once."""
    texts: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Answers of language models to be asked about: JSON lines, {"prompt": "...", "answers": ["...", "..."]}."""
    walks: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """A ready study: N questions about walks on a delivery board, with clips, instructions and a quiz."""
    board: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """With --walks: a board of your own, rows of codes as text or JSON."""
    revoke: tuple[str, ...] = ()
    """People whose invitation ends; what they answered stays. Nothing is served then."""
    erase: tuple[str, ...] = ()
    """People all of whose answers are erased, for good. Nothing is served then."""
    port: int = 8000
    """Where the page is served, on this machine alone; 0: any free port."""
    store: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """A PostgreSQL database, postgresql://user:password@host/name; by default a file in the folder."""
    public: Flag = False
    """People come through a proxy that speaks TLS, under --address."""
    address: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """With --public: how the proxy is reached, such as https://example.org/study."""

    def __call__(self) -> int:
        from rapport.ask import command

        return command(self)


@dataclass(frozen=True)
class Explain:
    """Which model explains a person's answers: return, regret, a policy (CPL) or a mixture, by what they predict."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STORE")]
    """A study or data folder with comparisons of two clips."""
    annotator: tuple[str, ...] = ()
    """Only these people; by default each of them, and everyone together."""
    folds: int = 10
    """Into how many parts the questions are divided; each is predicted from the others."""
    store: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """Where STORE keeps its answers, if in PostgreSQL (postgresql://...)."""
    out: Folder = None
    """Where report.html and calibration.png are written; by default a folder under runs/."""
    json: Flag = False
    """Print one JSON object last."""

    def __call__(self) -> int:
        from rapport.explain.command import command

        return command(self)


@dataclass(frozen=True)
class Evaluate:
    """Roll a run's policy out on layouts it has never seen: return, wishes and task, with intervals."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The folder of a run, as `rapport demo` writes it, or of an exported policy of the same arm."""
    episodes: int = 512
    """How many held-out layouts."""
    person: Literal["careful", "short"] = "careful"
    """Of a policy alone: whose wishes are measured; a run says so itself."""
    clips: bool = True
    """Render clips of the first layouts into the run's folder."""
    json: Flag = False
    """Print one JSON object instead of the table."""

    def __call__(self) -> int:
        from rapport.cup.evaluate import evaluate

        return evaluate(self)


@dataclass(frozen=True)
class Methods:
    """List every system that the project is to make usable, with its domains and whether it works today."""

    json: Flag = False
    """Print one JSON list of objects instead of the table."""

    def __call__(self) -> int:
        from rapport.systems import SYSTEMS

        if self.json:
            print(json_format.dumps([asdict(system) for system in SYSTEMS], indent=2, ensure_ascii=False))
            return 0
        room = ""
        for system in SYSTEMS:
            if system.room != room:
                room = system.room
                print(f"\n{room}")
            where = f" ({', '.join(system.domains)})" if system.domains else ""
            print(f"  {system.key:12} {system.state + where:18} {system.title}")
        working = sum(system.state == "working" for system in SYSTEMS)
        print(f"\n{working} of {len(SYSTEMS)} work; `rapport reproduce KEY` shows that one does.")
        return 0


@dataclass(frozen=True)
class Reproduce:
    """Run the small experiment that shows whether a system works (exit code 1 if a mechanism check fails)."""

    key: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="KEY")]
    """The key of a working system, as `rapport methods` lists it."""
    domain: Annotated[str | None, tyro.conf.arg(metavar="D", help_behavior_hint="")] = None
    """Where to run it; its smallest domain unless told."""
    seed: int = 0
    """The (first) seed; any works."""
    full: Flag = False
    """Every domain, five seeds and all comparisons."""
    json: Flag = False
    """Print one JSON object instead of the lines."""
    out: Folder = None
    """The folder for plots; by default runs/reproduce-KEY."""

    def __call__(self) -> int:
        from rapport.reproduce import run

        out = self.out or Path("runs") / f"reproduce-{self.key}"
        result = run(self.key, self.domain, self.seed, self.full, out)
        if self.json:
            print(json_format.dumps(result.to_json(), ensure_ascii=False))
        else:
            print(*result.lines(), sep="\n")
            print(f"{result.seconds:.0f} s; plots in {out}")
        return 0 if result.holds else 1


Verb = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Align, tyro.conf.subcommand("align")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Ask, tyro.conf.subcommand("ask")]
    | Annotated[Explain, tyro.conf.subcommand("explain")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Lm, tyro.conf.subcommand("lm")]
    | Annotated[Robot, tyro.conf.subcommand("robot")]
    | Annotated[Methods, tyro.conf.subcommand("methods")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command. 0: well; 1: it ran and what it checks does not hold; 2: it cannot run; 130: interrupted."""
    args = list(sys.argv[1:] if args is None else args) or ["--help"]
    verb = tyro.cli(
        Verb,
        prog="rapport",
        description="Teach machines what people prefer.",
        args=args,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    try:
        check_imports()
        code = verb()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        resumes = Demo | Train | Align | Compare | Learning
        what = verb.what if isinstance(verb, Lm) else verb
        again = "goes on where it stopped" if isinstance(what, resumes) else "starts it again"
        print(f"\nrapport: stopped; the same command {again}.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough (`| head`); nor may the interpreter complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if sys.flags.dev_mode or not _designed(error):
            raise
        print(f"rapport: {error}", file=sys.stderr)
        return 2


def _designed(error: Exception) -> bool:
    """Whether the error is a sentence for the user: a class of ours, a ValueError that a line of ours raised, or the
    system's own. A ValueError from inside a library is a fault of ours, and its traceback is wanted."""
    last = list(traceback.walk_tb(error.__traceback__))[-1][0].f_globals["__name__"]
    origin = last if type(error) is ValueError else type(error).__module__
    return isinstance(error, OSError) or origin.partition(".")[0] in (*OURS, "rapport")
