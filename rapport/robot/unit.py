"""`rapport robot unit`: the robot as a service of systemd's."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from hardware.config import read
from hardware.priority import DAEMON
from rapport.console import say

_UNIT = """\
# Not safety-rated: a hardware e-stop that cuts the motors' power is required.
[Unit]
Description=Rapport robot {name}
After=network.target

[Service]
Type=notify
# The control loop itself says that it lives; it is a child of the command.
NotifyAccess=all
WatchdogSec=1
ExecStart={python} -m rapport robot run {robot}
WorkingDirectory={folder}
User={user}
SupplementaryGroups=dialout video
# Into READY, without power; never into motion.
Restart=on-failure
RestartSec=2
# An arm behind LeRobot is opened within a minute, tried three times.
TimeoutStartSec=200
# Only the command is told to end: it has the arm braked first.
KillMode=mixed
TimeoutStopSec=15
LimitRTPRIO={priority}
LimitMEMLOCK=infinity
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={journal}
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6

[Install]
WantedBy=multi-user.target
"""


def unit(robot: Path, user: str) -> str:
    """Raises ConfigError for a robot's file that says nothing sensible, ValueError for a user that cannot be."""
    if not user or not user.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"--user is {user!r}: give the name of a user.")
    config = read(robot)
    _folder(config.journal, user)
    return _UNIT.format(
        name=_plain(config.file.stem),
        python=_quoted(Path(sys.executable)),
        robot=_quoted(robot.resolve()),
        folder=_plain(str(robot.resolve().parent)),
        journal=_quoted(config.journal.resolve()),
        user=user,
        priority=DAEMON,
    )


def _folder(journal: Path, user: str) -> None:
    """Made, since systemd wants it there, and the user's where this may give it to him; else what is to be done is
    said."""
    made = not journal.exists()
    journal.mkdir(0o700, parents=True, exist_ok=True)
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        say(f"There is no user {user} yet. Make one, and then: chown -R {user} {_quoted(journal.resolve())}")
        return
    if made and os.geteuid() == 0:
        os.chown(journal, uid, -1)
    if journal.stat().st_uid != uid:
        say(f"{user} cannot write there yet: chown -R {user} {_quoted(journal.resolve())}")


def _quoted(path: Path) -> str:
    text = _plain(str(path)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if any(sign in text for sign in " '\"\\") else text


def _plain(text: str) -> str:
    return text.replace("%", "%%")
