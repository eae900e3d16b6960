"""`rapport robot`, as somebody without an arm would try it: emulated, run, moved, stopped, and brought back."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from hardware.arms import make
from hardware.clock import RealClock
from hardware.config import ConfigError, read
from hardware.link import socket_path
from policies.export import export
from policies.mlp import Layers
from rapport.cli import main
from rapport.cup.handover import PARTS, agreed, cartesian
from rapport.robot.emulating import emulate
from rapport.robot.unit import unit
from tests.hardware.walked import ticks, write

HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}


def rapport(*words, **more):
    return subprocess.run(
        [sys.executable, "-m", "rapport", "robot", *map(str, words)], env=HERE, capture_output=True, text=True, **more
    )


@contextmanager
def started(*words, **environment):
    """The first line of a verb that goes on until it is ended, and its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rapport", "robot", *map(str, words)],
        env={**HERE, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().strip(), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        process.stdout.close()


def free_port():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


@contextmanager
def http(address, file):
    base, _, token = address.partition("/#token=")
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
        client.headers["X-Lease"] = client.post("/v1/lease", json={"seconds": 60}).json()["lease"]
        yield client


def until(client, mode):
    for _ in range(500):
        if (state := client.get("/v1/state").json())["mode"] == mode and not state["episode"]:
            return state
        time.sleep(0.04)
    raise AssertionError(state)


@pytest.mark.parametrize("family", ["so101", "dynamixel", "ur5e", "cup"])
def test_the_file_of_an_emulated_arm_makes_sense(tmp_path, family, monkeypatch):
    for name in ("hardware.emulators.__main__.main", "hardware.emulators.ur.main"):
        monkeypatch.setattr(name, lambda words: None)
    assert emulate(family, tmp_path, 8601) == 0
    config = read(tmp_path / "robot.toml")
    assert config.port == 8601 and len(config.home) == len(config.limits.names)
    (tmp_path / "robot.toml").write_text((tmp_path / "robot.toml").read_text() + "# mine\n")
    emulate(family, tmp_path, 8601)
    assert (tmp_path / "robot.toml").read_text().endswith("# mine\n")
    emulate(family, tmp_path / "patient", 8601, patient=True)
    slow = read(tmp_path / "patient" / "robot.toml")
    assert slow.limits.rate == 40.0 and slow.limits.tracking_seconds == 1.0
    assert ("spare_ms" in slow.arm.settings) == (family in ("so101", "dynamixel"))


def test_the_file_of_an_arm_that_lerobot_leads(tmp_path, monkeypatch):
    monkeypatch.setattr("hardware.emulators.__main__.main", lambda words: None)
    folder, python = tmp_path / 'an "arm"', Path(sys.executable)
    assert emulate("so101", folder, 8601, lerobot=python) == 0
    config = read(folder / "robot.toml")
    assert config.arm.family == "lerobot" and config.arm.settings["python"] == str(python.absolute())
    assert json.loads((folder / "so.json").read_text())["gripper"]["range_max"] == 3400
    arm = make.arm_of(config, RealClock())
    assert arm.spec.names == config.limits.names
    for family, patient, said in (("ur5e", False, "--lerobot with ur5e"), ("so101", True, "--lerobot with --patient")):
        with pytest.raises(ValueError, match=said):
            emulate(family, tmp_path, 8601, patient, python)
    with pytest.raises(ValueError, match="there is no such file"):
        emulate("so101", tmp_path, 8601, lerobot=tmp_path / "python")
    text = (folder / "robot.toml").read_text()
    for wrong in ("0.3", "true", "nan", "0.0"):  # two of .3 s and a period: the guard would end the daemon meanwhile
        (folder / "robot.toml").write_text(text.replace("answer = 0.2", f"answer = {wrong}"))
        with pytest.raises(ConfigError, match=r"answer is .*; give seconds, more than 0 and at most 0\.225"):
            make.arm_of(read(folder / "robot.toml"), RealClock())


def test_the_main_jobs_policy_fits_the_emulated_arm(tmp_path):
    from hardware.contracts import objections
    from policies.observer import asked

    emulate("cup", tmp_path, 8601)
    assert objections(read(tmp_path / "robot.toml"), asked(PARTS, agreed("anything"))) == []


def test_the_unit_is_what_systemd_takes(tmp_path):
    emulate("cup", tmp_path / "a robot 100%", 8600)
    said = unit(tmp_path / "a robot 100%" / "robot.toml", "robot")
    for line in ("Type=notify", "WatchdogSec=1", "Restart=on-failure", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert line in said.splitlines()
    assert "a robot 100%%" in said and "TimeoutStopSec=" in said and "LimitRTPRIO=50" in said
    if (tool := shutil.which("systemd-analyze")) is not None:
        service = tmp_path / "rapport-robot.service"
        service.write_text(said)
        found = subprocess.run([tool, "verify", str(service)], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
    with pytest.raises(ValueError, match="name of a user"):
        unit(tmp_path / "a robot 100%" / "robot.toml", "root; rm")


def test_the_unit_folder_is_the_users_or_it_is_said_what_is_left(tmp_path, capsys):
    emulate("cup", tmp_path, 8600)
    file = tmp_path / "robot.toml"
    me = pwd.getpwuid(os.getuid()).pw_name
    unit(file, "nobody-of-that-name")
    assert "chown -R nobody-of-that-name" in capsys.readouterr().err
    episodes = read(file).journal
    assert episodes.stat().st_mode & 0o777 == 0o700
    unit(file, me)
    assert capsys.readouterr().err == ""
    other = "nobody" if me != "nobody" else "root"
    unit(file, other)  # it was there before, and stays whose it is
    assert f"chown -R {other} " in capsys.readouterr().err and episodes.stat().st_uid == os.getuid()
    if os.getuid() == 0:
        episodes.rmdir()
        unit(file, other)
        assert capsys.readouterr().err == "" and episodes.stat().st_uid == pwd.getpwnam(other).pw_uid


@pytest.mark.slow
def test_a_service_tells_the_log_no_token(tmp_path):
    emulate("cup", tmp_path, port := free_port())
    with started("run", tmp_path / "robot.toml", NOTIFY_SOCKET=str(tmp_path / "nobody")) as (address, _):
        assert address == f"http://127.0.0.1:{port}/"


def test_a_data_set_says_what_is_left_and_how_to_replace_it(tmp_path, capsys):
    write(tmp_path / "a.journal", list(ticks([("policy", 30)])))
    write(tmp_path / "b.journal", list(ticks([("homing", 9)])))
    words = ["robot", "episodes", str(tmp_path), "--lerobot", str(tmp_path / "set")]
    assert main(words) == 0
    assert "left: " in (said := capsys.readouterr().out) and "b.journal has no stretch" in said
    assert main([*words, "--fps", "10"]) != 0
    assert "--replace" in capsys.readouterr().err
    assert main([*words, "--fps", "10", "--replace"]) == 0
    assert json.loads((tmp_path / "set" / "meta" / "info.json").read_text())["fps"] == 10


def test_what_cannot_be_is_one_sentence(tmp_path, capsys):
    assert main(["robot", "status", str(tmp_path / "none.toml")]) == 2
    assert "name the robot's file" in capsys.readouterr().err
    emulate("cup", tmp_path, 8600)
    assert main(["robot", "status", str(tmp_path / "robot.toml")]) == 2
    assert "`rapport robot run` starts one" in capsys.readouterr().err
    assert main(["robot", "stop", str(tmp_path / "robot.toml"), "--estop"]) == 2
    said = capsys.readouterr().err
    assert "no daemon is at" in said and "not stopped: use the hardware e-stop" in said
    assert main(["robot", "stop", str(tmp_path / "robot.toml"), "--category", "3"]) == 2
    assert main(["robot", "serve", str(tmp_path)]) == 2
    assert "contract.json" in capsys.readouterr().err
    assert main(["robot", "episodes", str(tmp_path / "robot.toml")]) == 0
    assert main(["robot", "calibrate", str(tmp_path / "robot.toml"), "--serial", "x"]) == 2
    assert "are calibrated" in capsys.readouterr().err


def test_a_stop_that_nobody_hears_says_that_it_is_none(tmp_path, capsys):
    emulate("cup", tmp_path, 8600)
    where = socket_path(read(tmp_path / "robot.toml").journal)
    where.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(where))
        hanging.listen()
        assert main(["robot", "stop", str(tmp_path / "robot.toml"), "--estop"]) == 2
    said = capsys.readouterr().err
    assert "it hangs" in said and "not stopped: use the hardware e-stop" in said and "starts one" not in said


@pytest.mark.slow
def test_an_emulated_servo_arm_is_run_moved_and_stopped(tmp_path):
    file = tmp_path / "robot.toml"
    with started("emulate", "so101", tmp_path, "--port", free_port()):
        checked = rapport("check", file)
        assert checked.returncode == 0, checked.stdout
        with started("run", file) as (address, _), http(address, file) as client:
            assert "lives" in rapport("status", file).stdout
            assert client.post("/v1/arm").json() == {"done": True}
            assert client.post("/v1/home").json() == {"done": True}
            state = until(client, "HOLD")
            assert np.abs(state["position"]).max() < 0.1, state
            assert rapport("stop", file, "--estop").stdout.startswith("e-stop")
            until(client, "ESTOP")
            assert rapport("status", file).returncode == 1
        assert rapport("status", file).returncode == 2
        assert "latched" in rapport("check", file).stdout
    listed = rapport("episodes", file).stdout
    assert "whole" in listed and "home" in listed


@pytest.mark.slow
def test_a_killed_guard_and_gateway_are_started_again_and_a_daemon_is_not(tmp_path):
    emulate("cup", tmp_path, free_port())
    file = tmp_path / "robot.toml"
    with started("run", file) as (address, process):
        for name in ("guard", "gateway"):
            (child,) = children(process.pid, name)
            os.kill(child, signal.SIGKILL)
            for _ in range(200):
                if (again := children(process.pid, name)) and again != [child]:
                    break
                time.sleep(0.05)
            assert again != [child], name
        for _ in range(200):
            with suppress(httpx.TransportError):
                httpx.get(f"{address.partition('/#')[0]}/healthz")
                break
            time.sleep(0.05)
        with http(address, file):
            assert "lives" in rapport("status", file).stdout
        (daemon,) = children(process.pid, "armd")
        os.kill(daemon, signal.SIGKILL)
        assert process.wait(15) == 1
    assert "FAULT" in rapport("check", file).stdout


def children(pid, name):
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if f"hardware.{name} " in line]


@pytest.mark.slow
def test_the_circle_an_exported_policy_leads_and_its_day_comes_back_as_questions(tmp_path):
    weights = (np.zeros((4, 26), "f4"), np.zeros((5, 4), "f4"))
    layers = Layers(weights, (np.zeros(4, "f4"), np.array([0, 0.3, 0, 0, 0], "f4")))
    export(tmp_path / "policy", layers, cartesian(), agreed("to turn"), PARTS)
    robot, study, token = tmp_path / "robot", tmp_path / "study", tmp_path / "token"
    emulate("cup", robot, free_port())
    file = robot / "robot.toml"
    scene = {"goal": [0.5, 0.42, 0.22], "laptop": [0.54, 0.0], "start": [0.5, -0.42, 0.27]}
    with (
        started("serve", tmp_path / "policy", "--port", free_port(), "--token", token) as (url, _),
        started("run", file, "--policy", url, "--policy-token", token) as (address, _),
        http(address, file) as client,
    ):
        client.post("/v1/scene", json={"values": scene})
        client.post("/v1/arm")
        for _ in range(2):
            client.post("/v1/home")
            until(client, "HOLD")
            begun = client.post("/v1/start", json={"task": "carry the cup"})
            assert begun.json() == {"done": True}
            time.sleep(2.5)
            client.post("/v1/stop", json={"done": True})
            until(client, "HOLD")
    told = rapport("queries", file, study, "--film", "cup")
    assert told.returncode == 0, told.stderr
    assert "questions (" in told.stdout and " 0 questions" not in told.stdout, told.stdout
    told = rapport("episodes", file, "--lerobot", tmp_path / "set")
    assert told.returncode == 0 and json.loads((tmp_path / "set" / "meta" / "info.json").read_text())["fps"] == 30
