"""One holder, and every command of theirs once, in order: invariant 9."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.lease import LeaseError, admit, give_back, held, renew, take

SECOND = 10**9
commands = st.tuples(st.sampled_from("abc"), st.integers(-2, 6), st.integers(0, SECOND))


@given(st.lists(commands, max_size=30), st.integers(1, 5 * SECOND))
def test_stale_duplicate_and_foreign_commands_are_never_admitted(given, length):
    lease, now, admitted = take(None, "a", "ann", 0, length), 0, []
    for lease_id, seq, pause in given:
        now += pause
        try:
            lease = admit(lease, lease_id, seq, now)
        except LeaseError:
            assert lease_id != "a" or now >= length or seq <= max(admitted, default=-1)
        else:
            assert lease_id == "a" and now < length
            admitted.append(seq)
    assert admitted == sorted(set(admitted)) and lease.seq == max(admitted, default=-1)


def test_only_one_holds_it_and_it_ends_by_itself_or_by_hand():
    lease = take(None, "a", "ann", 0, SECOND)
    with pytest.raises(LeaseError, match=r"ann holds the lease for 0.5 s more; wait"):
        take(lease, "b", "ben", SECOND // 2, SECOND)
    longer = renew(lease, "a", SECOND // 2, SECOND)
    assert held(longer, SECOND) and not held(lease, SECOND) and not held(None, 0)
    assert renew(longer, "a", SECOND // 2, 1) == longer
    assert take(lease, "b", "ben", SECOND, SECOND).holder == "ben"
    ended = give_back(longer, "a", SECOND)
    with pytest.raises(LeaseError, match="nobody holds the lease now; take it first"):
        admit(ended, "a", 0, SECOND)
    with pytest.raises(LeaseError, match="give a new id"):
        take(ended, "a", "ann", SECOND, SECOND)
    assert take(ended, "c", "ann", SECOND, SECOND).seq == -1


@pytest.mark.parametrize("act", [renew, give_back, admit])
def test_the_lease_of_another_is_not_ours(act):
    lease = take(None, "a", "ann", 0, SECOND)
    more = {renew: (0, SECOND), give_back: (0,), admit: (0, 0)}[act]
    with pytest.raises(LeaseError, match="ann holds the lease, and this command is of another"):
        act(lease, "b", *more)
    with pytest.raises(LeaseError, match="nobody holds the lease now"):
        act(None, "a", *more)


@pytest.mark.parametrize("seq", [None, True, 1.0, "1", float("nan")])
def test_a_number_is_a_number(seq):
    with pytest.raises(LeaseError, match="number commands upwards"):
        admit(take(None, "a", "ann", 0, SECOND), "a", seq, 0)
