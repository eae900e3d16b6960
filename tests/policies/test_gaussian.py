"""The Gaussian policy and the table: densities against scipy's and torch's, what they do, and what is saved."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from embodied import checkpoint
from embodied.feedback import Segments
from embodied.policy import Anchored
from policies.gaussian import GaussianPolicy
from policies.mlp import Layers, mean
from policies.table import SoftmaxTable


def make(seed=0, **kwargs):
    return GaussianPolicy(3, 2, seed=seed, hidden=(8, 8), low=[-1, -2], high=[1, 4], **kwargs)


def segments(seed=0, rows=4, steps=5):
    gen = torch.Generator().manual_seed(seed)
    obs, act = torch.randn(rows, 2, steps, 3, generator=gen), torch.randn(rows, 2, steps, 2, generator=gen)
    return Segments(obs, act, torch.ones(rows, 2, steps).bool(), torch.zeros(rows, 2, steps))


def test_log_densities_are_scipys():
    policy, data = make(), segments()
    average, log_std = (x.detach().numpy() for x in policy(data.obs))
    wanted = norm.logpdf(data.act.numpy(), average, np.exp(log_std)).sum(-1)
    np.testing.assert_allclose(policy.log_prob(data).detach().numpy(), wanted, rtol=1e-5)


def test_the_density_of_one_action_integrates_to_one():
    policy = GaussianPolicy(1, 1, seed=0, low=-1, high=5).double()

    def density(x):
        one = torch.full((1, 1, 1, 1), x, dtype=torch.float64)
        return math.exp(policy.log_prob(Segments(one * 0, one, torch.ones(1, 1, 1).bool(), one[..., 0])).item())

    assert quad(density, -20, 25, points=[2])[0] == pytest.approx(1, abs=1e-6)


def test_the_distance_is_torchs_kl():
    one, other, data = make(0), make(1, log_std=-0.3), segments()
    laws = [torch.distributions.Normal(mean, log_std.exp()) for mean, log_std in (p(data.obs) for p in (one, other))]
    wanted = torch.distributions.kl_divergence(*laws).sum(-1)
    assert torch.allclose(one.kl(other, data), wanted, rtol=1e-5)
    assert one.kl(one, data).abs().max() < 1e-6
    assert isinstance(one, Anchored) and isinstance(SoftmaxTable([[0.0]]), Anchored)


def test_it_acts_as_it_says_within_its_bounds():
    policy = make(log_std=-2.0)
    obs = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    average, log_std = (x.detach().numpy() for x in policy(torch.as_tensor(obs)))
    np.testing.assert_allclose(policy.act(obs), average, rtol=1e-6)
    spread = (policy.act(obs, deterministic=False) - average) / np.exp(log_std)
    assert abs(spread.mean()) < 0.08 and abs(spread.std() - 1) < 0.05
    wide = make(log_std=2.0).act(obs, deterministic=False)
    assert (wide >= [-1, -2]).all() and (wide <= [1, 4]).all()
    assert (wide == [-1, -2]).any() and policy.act(obs[0]).shape == (2,)


def test_standardised_once_units_of_observation_do_not_matter():
    data, plain, scaled = segments(), make(), make()
    other = Segments(data.obs * 7 - 3, data.act, data.mask, data.log_prob)
    plain.standardise(data)
    scaled.standardise(other)
    assert torch.allclose(plain.log_prob(data), scaled.log_prob(other), atol=1e-4)
    still = Segments(torch.ones_like(data.obs), data.act, data.mask, data.log_prob)
    plain.standardise(still)
    assert torch.isfinite(plain.log_prob(still)).all()


def test_deviations_stay_within_their_range_and_densities_are_bounded():
    policy, data = make(), segments()
    with torch.no_grad():
        policy.log_std.fill_(-100.0)
    peak = Segments(data.obs, policy(data.obs)[0].detach(), data.mask, data.log_prob)
    reach = (policy.high - policy.low) / 2
    bound = 2 * (5 - 0.5 * math.log(2 * math.pi)) - reach.log().sum()
    assert torch.allclose(policy.log_prob(peak), bound.expand(4, 2, 5), atol=1e-4)


def test_a_state_is_saved_and_loaded_with_its_stream_and_only_into_its_like(tmp_path):
    policy, obs = make(), np.zeros((3, 3))
    policy.standardise(segments())
    policy.act(obs, deterministic=False)
    checkpoint.save(tmp_path, 1, policy=policy)
    other = make(7)
    checkpoint.load(tmp_path, policy=other)
    assert torch.equal(policy.log_prob(segments(3)), other.log_prob(segments(3)))
    np.testing.assert_array_equal(policy.act(obs, deterministic=False), other.act(obs, deterministic=False))
    with pytest.raises(checkpoint.CheckpointError, match="GaussianPolicy 3-8-8-2"):
        checkpoint.load(tmp_path, policy=GaussianPolicy(3, 2, seed=0, hidden=(8,)))


def test_a_trained_network_becomes_one_exactly():
    rng = np.random.default_rng(0)
    shapes = [(6, 3), (2, 6)]
    layers = Layers(
        tuple(rng.normal(size=s).astype(np.float32) for s in shapes), tuple(rng.normal(size=s[0]) for s in shapes)
    )
    policy = GaussianPolicy.of(layers, np.array([-1.0, 0.5]), seed=0, low=[-1, -2], high=[1, 4])
    obs = rng.normal(size=(5, 3)).astype(np.float32)
    average, log_std = (x.detach().numpy() for x in policy(torch.as_tensor(obs)))
    np.testing.assert_allclose(average, mean(layers, obs), atol=1e-5)
    np.testing.assert_allclose(log_std, [-1.0, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: GaussianPolicy(0, 2, seed=0), "sizes"),
        (lambda: GaussianPolicy(3, 2, seed=0, low=1, high=-1), "the low below the high"),
        (lambda: GaussianPolicy(3, 2, seed=0, high=math.inf), "finite bounds"),
        (lambda: GaussianPolicy(3, 2, seed=0, log_std=9.0), "log_std 9.0"),
        (
            lambda: make().log_prob(Segments({"a": torch.zeros(1, 2)}, *[torch.zeros(1, 1, 1, 2)], *masks())),
            "a dict of a",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def masks():
    return torch.ones(1, 1, 1).bool(), torch.zeros(1, 1, 1)


def test_a_table_is_a_softmax():
    table = SoftmaxTable([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]])
    obs, act = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1), torch.tensor([2.0, 0.0]).reshape(1, 1, 2, 1)
    data = Segments(obs, act, torch.ones(1, 1, 2).bool(), torch.zeros(1, 1, 2))
    law = [np.exp(x) / np.exp(x).sum() for x in (np.array([0.0, 1, 2]), np.array([1.0, 0, 0]))]
    assert table.log_prob(data)[0, 0].tolist() == pytest.approx([math.log(law[0][2]), math.log(law[1][0])], abs=1e-6)
    even = SoftmaxTable(torch.zeros(2, 3))
    wanted = [(p * np.log(3 * p)).sum() for p in law]
    assert table.kl(even, data)[0, 0].tolist() == pytest.approx(wanted, abs=1e-6)
    assert table.fingerprint() == "SoftmaxTable [2, 3]"


def test_its_layers_make_it_again():
    policy = GaussianPolicy(4, 2, seed=3, low=np.array([-1.0, 0.0]), high=np.array([1.0, 3.0]), hidden=(8, 8))
    again = GaussianPolicy.of(policy.layers(), np.zeros(2), seed=0, low=[-1.0, 0.0], high=[1.0, 3.0])
    obs = np.random.default_rng(0).normal(size=(20, 4))
    np.testing.assert_allclose(again.act(obs), policy.act(obs), atol=1e-6)
    np.testing.assert_allclose(mean(policy.layers(), obs).clip([-1, 0], [1, 3]), policy.act(obs), atol=1e-6)
