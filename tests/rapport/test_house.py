"""The house from outside: what the shell sees, which floor imports which, and that the papers of the house agree."""

import dataclasses
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from rapport import cli

ROOT = Path(cli.__file__).parent.parent
PACKAGES = ("rapport", "human_ui", "hardware", "llm_bridge", "policies", "embodied", "envs")
VERBS = {
    "demo": (cli.Demo, []),
    "evaluate": (cli.Evaluate, ["runs/some"]),
    "methods": (cli.Methods, []),
    "reproduce": (cli.Reproduce, ["prefrl"]),
}


def python(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *args]
    environment = {**os.environ, "COLUMNS": "120", **env}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def rapport(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python("-m", "rapport", *args, cwd=cwd)


def words(text: str) -> str:
    """Without the frames and line breaks of a help text."""
    return " ".join(re.sub("[─│╭╮╰╯•]", " ", text).split())


def test_help_lists_every_verb_and_what_it_does(tmp_path: Path) -> None:
    asked, alone = rapport("--help", cwd=tmp_path), rapport(cwd=tmp_path)
    assert asked.returncode == alone.returncode == 0
    assert asked.stdout == alone.stdout
    for verb, (options, _) in VERBS.items():
        assert f"{verb} {options.__doc__}" in words(asked.stdout)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_explains_every_flag(verb: str, tmp_path: Path) -> None:
    options, _ = VERBS[verb]
    shown = rapport(verb, "--help", cwd=tmp_path)
    assert shown.returncode == 0
    text = words(shown.stdout)
    assert options.__doc__ and options.__doc__ in text
    source = Path(cli.__file__).read_text()
    body = source[source.index(f"class {options.__name__}:") :]
    for field in dataclasses.fields(options):
        required = field.default is dataclasses.MISSING
        flag = field.name.upper() if required else f"--{field.name}"
        explained = re.search(rf'\n    {field.name}: .*\n    """(.*)"""\n', body)
        assert flag in text and explained and explained[1] in text, field.name


def test_help_and_tables_load_nothing_heavy(tmp_path: Path) -> None:
    for args in (["--help"], ["demo", "--help"], ["methods"], ["reproduce", "no-such-key"]):
        code = (
            "import sys\nfrom rapport.cli import main\n"
            f"try:\n    main({args!r})\nexcept SystemExit:\n    pass\n"
            "print('loaded', *{'torch', 'mujoco', 'gymnasium', 'scipy', 'matplotlib'} & set(sys.modules))"
        )
        assert python("-c", code, cwd=tmp_path).stdout.splitlines()[-1] == "loaded", args


def test_what_is_durable_loads_without_torch(tmp_path: Path) -> None:
    modules = ", ".join(f"embodied.{name}" for name in ("records", "episodes", "store", "contract"))
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert python("-c", code, cwd=tmp_path).stdout == "False\n"


@pytest.mark.parametrize("verb", VERBS)
def test_a_users_own_envs_is_named_with_the_mend(verb: str, tmp_path: Path) -> None:
    mine = tmp_path / "envs"
    mine.mkdir()
    (mine / "__init__.py").write_text("raise SystemExit('the code of a stranger was run')\n")
    shown = rapport(verb, *VERBS[verb][1], cwd=tmp_path)
    assert shown.returncode == 2 and shown.stdout == ""
    assert shown.stderr == (
        f"rapport: `import envs` finds {mine}, not Rapport's own {ROOT / 'envs'}: "
        "rename that envs, or run the command from another folder\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["envs"]


def test_a_users_own_envs_file_shadows_too(tmp_path: Path) -> None:
    (tmp_path / "envs.py").write_text("")
    assert f"`import envs` finds {tmp_path / 'envs.py'}, not" in rapport("methods", cwd=tmp_path).stderr


def test_a_folder_that_shadows_nothing_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()  # no module in it: `import envs` goes on to ours
    assert rapport("methods", cwd=tmp_path).returncode == 0
    (tmp_path / "envs/__init__.py").write_text("")
    below = tmp_path / "below"
    below.mkdir()
    assert rapport("methods", cwd=below).returncode == 0


def test_a_wrong_value_is_told_without_a_traceback(tmp_path: Path) -> None:
    for args in (["nope"], ["demo", "--person", "nobody"], ["evaluate"], ["reproduce", "basalt"]):
        shown = rapport(*args, cwd=tmp_path)
        assert shown.returncode == 2 and shown.stdout == "", args
        assert shown.stderr and "Traceback" not in shown.stderr


def test_a_fault_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    # The same sentence, as a developer asks for it.
    shown = python("-X", "dev", "-m", "rapport", "reproduce", "basalt", cwd=tmp_path)
    assert "Traceback" in shown.stderr and "'basalt' is planned" in shown.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m rapport methods --json | head -1; echo ${{PIPESTATUS[0]}}"
    shown = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert shown.stdout == "[\n0\n" and shown.stderr == ""


def test_an_interrupt_says_what_the_same_command_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rapport", "reproduce", "prefrl", "--full"]
    # Whoever starts tests in the background of a shell has them ignore the interrupt, and their children too.
    hear = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=hear)
    assert running.stderr
    seen = ""
    # Its progress bar has moved: it is at work. (In the midst of its imports a library may swallow the interrupt.)
    while not re.search(r" [1-9]%", seen):
        seen += running.stderr.read(1) or pytest.fail(f"ended with {seen!r}")
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.endswith("rapport: stopped; the same command starts it again.\n") and "Traceback" not in said


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return python("-c", code, "--no-cache", cwd=root, PYTHONPATH=str(root))


def test_each_folder_imports_only_from_lower_floors() -> None:
    shown = lint_imports(ROOT)
    assert shown.returncode == 0, shown.stdout
    assert "10 kept, 0 broken" in shown.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("embodied/feedback.py", "import policies.sb3", "A folder imports only from lower floors"),
        ("policies/sb3.py", "import envs.point", "envs is imported by rapport only"),
        ("envs/arm.py", "import embodied.records", "envs knows nothing of preferences"),
        ("human_ui/clips.py", "import embodied.feedback", "The GUI stands on the core alone, without torch"),
        ("embodied/records.py", "import embodied.feedback", "What is durable loads without torch"),
        ("llm_bridge/records.py", "import human_ui.texts", "A folder imports only from lower floors"),
        ("llm_bridge/shapes.py", "import torch", "What reads and writes preference data loads without torch"),
        ("policies/table.py", "import transformers", "Language models are one folder's business"),
        (
            "rapport/cup/agent.py",
            "import rapport.cup.people",
            "The hidden person steers neither the learner nor what is shown",
        ),
    ],
)
def test_an_import_that_goes_up_is_found(file: str, line: str, contract: str, tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as source:
        source.write(f"\n{line}\n")
    shown = lint_imports(tmp_path)
    assert shown.returncode == 1
    assert f"{contract} BROKEN" in shown.stdout


def normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def test_the_pinned_set_is_whole_and_is_what_runs_here() -> None:
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    pinned = {normal(pin.name): pin.specifier for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = project["dependencies"] + [
        text for extra in ("robot", "lm", "judge", "dev", "docs") for text in extras[extra]
    ]
    needed = [Requirement(text) for text in texts if not text.startswith("rapport[")]
    seen = set[tuple[str, str]]()
    while needed:
        requirement = needed.pop()
        package = normal(requirement.name)
        version = importlib.metadata.version(package)
        assert package in pinned and pinned[package].contains(version), f"{package}=={version}"
        for extra in {"", *requirement.extras} - {e for p, e in seen if p == package}:
            seen.add((package, extra))
            for further in map(Requirement, importlib.metadata.requires(package) or []):
                # torch's default build brings libraries of the GPU's maker, in versions that it pins itself
                foreign = package == "torch" and normal(further.name) not in pinned
                if not foreign and (further.marker is None or further.marker.evaluate({"extra": extra})):
                    needed.append(further)
    assert {package for package, _ in seen} == set(pinned)


def make(folder: Path, *args: str, **env: str) -> str:
    """What `make` says in a folder with nothing but the files of the set-up; it has to fail and to set up nothing."""
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, folder)
    environment = {**os.environ, **env}
    shown = subprocess.run(["make", *args], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert shown.returncode != 0 and not (folder / ".venv").exists()
    return shown.stderr


@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_make_without_python_says_what_to_install(target: str, tmp_path: Path) -> None:
    said = make(tmp_path, target, "PYTHON=no-such-python")
    assert "There is no 'no-such-python' here; install Python 3.11 or newer" in said


def test_make_with_a_python_that_makes_no_environments_says_what_to_install(tmp_path: Path) -> None:
    # As on a Debian without python3-venv, where the module is missing.
    (tmp_path / "ensurepip.py").write_text("raise ImportError\n")
    said = make(tmp_path, "demo", f"PYTHON={sys.executable}", PYTHONPATH=str(tmp_path))
    assert "cannot make virtual environments" in said and "sudo apt-get install python3-venv" in said
