"""Walks on a delivery board as the models of preference see them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from embodied.feedback import Segments
from embodied.preference_models import Model, Pairs, best_of, candidates, table_policy, units
from embodied.records import Array
from embodied.regret import candidates as policies
from embodied.regret import successor_features
from embodied.walks import Steps, steps
from envs.delivery import Board

POLICIES = 60
SIGN: Array = np.array([1.0, -1.0])


def models(board: Board, segments: Segments) -> tuple[Model, ...]:
    """The candidates for pairs of walks. The values of regret are the best of 60 policies, each the best for some
    weights drawn from the board's own."""
    at = steps(segments)
    bank = successor_features(board, policies(board, POLICIES, np.random.default_rng(0), board.weights))
    return candidates(_pairs(board, at, bank.state.numpy()), table_policy(_counts(board, at), len(board.terminal)))


def _pairs(board: Board, at: Steps, ahead: Array) -> Pairs:
    mask, found = at.mask.numpy(), at.found.double().numpy()
    discount = board.gamma ** np.arange(mask.shape[-1])
    plain = (found * mask[..., None]).sum(2)
    discounted = (found * (mask * discount)[..., None]).sum(2)
    begin, end = at.state[..., 0].numpy(), at.end.numpy()
    fade = board.gamma ** mask.sum(-1)
    rows = np.arange(len(mask)).repeat(4)
    places = np.stack([end, begin], -1).reshape(-1)  # [B,K,2], as the values below
    values = (np.stack([fade, -np.ones_like(fade)], -1) * SIGN[:, None]).reshape(-1)
    change = csr_array((values, (rows, places)), (len(mask), len(board.terminal)))
    found = SIGN @ plain
    unit = units(found)
    return Pairs(found / unit, SIGN @ (discounted - plain) / unit, best_of(ahead / unit, change))


def _counts(board: Board, at: Steps) -> csr_array:
    states, actions = board.next.shape[:2]
    mask = at.mask.numpy()
    rows, alternative, _ = np.nonzero(mask)
    columns = (at.state.numpy() * actions + at.action.numpy())[mask]
    return csr_array((SIGN[alternative], (rows, columns)), (len(mask), states * actions))
