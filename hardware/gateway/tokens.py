"""Who may do what with a robot: a file of tokens, for its owner's eyes only, made when it is first asked for.

Tokens lie in it as they are, so that the command that starts everything can tell the page's address on any day: whoever
may read the file may also speak to the daemon's socket, which asks for none.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

FILE = "tokens.json"
Role = Literal["observe", "operate", "admin"]
"""observe: looks, and stops the arm. operate: also commands it, with the lease. admin: also ends another's lease."""


class TokenError(ValueError):
    """A file of tokens that cannot be trusted or read; the sentence names it and the mend."""


@dataclass(frozen=True)
class Person:
    name: str
    role: Role


@dataclass(frozen=True)
class Tokens:
    """Each person's token; `whose` takes as long for a wrong one, whichever it is."""

    known: tuple[tuple[Person, str], ...]

    def whose(self, token: str) -> Person | None:
        found = None
        for person, secret in self.known:
            if hmac.compare_digest(secret.encode(), token.encode(errors="replace")):
                found = person
        return found

    def of(self, role: Role) -> str:
        """The first with this role, or nothing."""
        return next((secret for person, secret in self.known if person.role == role), "")


def tokens(path: Path) -> Tokens:
    """Of the file, which is made with one token of each role if it is not there. Raises TokenError for one that others
    may read, or that says something else, OSError where it cannot be made."""
    path = Path(path)
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    with os.fdopen(made, "w") as file:
        fresh = {role: {"role": role, "token": secrets.token_urlsafe(16)} for role in get_args(Role)}
        file.write(json.dumps(fresh, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return _read(path)


def _read(path: Path) -> Tokens:
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        if about.st_mode & 0o077 or about.st_uid != os.geteuid():
            raise TokenError(
                f"{path} may be read by others (mode {about.st_mode & 0o777:o}); chmod 600 it, or remove it"
            )
        data = file.read(1 << 20)
    try:
        found = tuple((Person(name, one["role"]), one["token"]) for name, one in json.loads(data).items())
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise TokenError(
            f'{path} is not {{"NAME": {{"role": "operate", "token": "..."}}}}; remove it: it is made anew'
        ) from None
    for person, secret in found:
        if person.role not in get_args(Role) or not isinstance(secret, str) or len(secret) < 16:
            raise TokenError(
                f"{path}: {person.name!r} has role {person.role!r} and a token of {len(str(secret))} signs; "
                f"give one of {', '.join(get_args(Role))}, and 16 or more"
            )
    return Tokens(found)
