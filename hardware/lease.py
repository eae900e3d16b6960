"""Who may command an arm: one holder at a time, for a while, with commands that are numbered. Pure; time is monotonic.

The id is drawn by whoever gives the lease, at random and never twice: it is what a command has to name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


class LeaseError(ValueError):
    """Somebody else holds the lease, or nobody does; the sentence says who, and the mend."""


@dataclass(frozen=True)
class Lease:
    """seq: of the last command admitted, -1 before any."""

    id: str
    holder: str
    until_ns: int
    seq: int = -1


def held(lease: Lease | None, now_ns: int) -> bool:
    return lease is not None and now_ns < lease.until_ns


def take(lease: Lease | None, new_id: str, holder: str, now_ns: int, length_ns: int) -> Lease:
    """A lease of one's own, if nobody has one. Raises LeaseError."""
    if lease is not None and held(lease, now_ns):
        left = (lease.until_ns - now_ns) / 1e9
        raise LeaseError(f"{lease.holder} holds the lease for {left:.1f} s more; wait, or have it given back")
    if not new_id or (lease is not None and new_id == lease.id) or length_ns <= 0:
        raise LeaseError(f"a lease {new_id!r} of {length_ns} ns cannot be; give a new id and more than 0 ns")
    return Lease(new_id, holder, now_ns + length_ns)


def renew(lease: Lease | None, lease_id: str, now_ns: int, length_ns: int) -> Lease:
    """The same lease, for `length_ns` from now on. One that has ended is not renewed. Raises LeaseError."""
    found = _holds(lease, lease_id, now_ns)
    return replace(found, until_ns=max(found.until_ns, now_ns + length_ns))


def give_back(lease: Lease | None, lease_id: str, now_ns: int) -> Lease:
    """The lease, ended: it is kept, so that its id is known. Raises LeaseError."""
    return replace(_holds(lease, lease_id, now_ns), until_ns=now_ns)


def admit(lease: Lease | None, lease_id: str, seq: int, now_ns: int) -> Lease:
    """The lease after command `seq`. Raises LeaseError for a foreign or late command, and for one that is not new."""
    found = _holds(lease, lease_id, now_ns)
    if isinstance(seq, bool) or not isinstance(seq, int) or seq <= found.seq:
        raise LeaseError(f"command {seq!r} comes after {found.seq}; number commands upwards, each once")
    return replace(found, seq=seq)


def _holds(lease: Lease | None, lease_id: str, now_ns: int) -> Lease:
    if lease is None or not held(lease, now_ns):
        raise LeaseError("nobody holds the lease now; take it first")
    if lease.id != lease_id:
        raise LeaseError(f"{lease.holder} holds the lease, and this command is of another; take it first")
    return lease
