"""Checkpoints: what is loaded is bit for bit what was saved, and there is always one to load."""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import embodied
from embodied.checkpoint import CheckpointError, latest, load, save

ROOT = Path(embodied.__file__).parents[1]
BIT_GENERATORS = [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM]


class Box:
    """A state and nothing else, with a fingerprint if it is given one."""

    def __init__(self, state=None, fingerprint=None):
        self.state = state
        if fingerprint is not None:
            self.fingerprint = lambda: fingerprint

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


@contextmanager
def file_size_limit(limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def same(a, b):
    """Equal in type, shape and every bit."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.contiguous().flatten().view(torch.uint8).equal(b.contiguous().flatten().view(torch.uint8))
    elif isinstance(a, np.ndarray | np.generic):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    else:
        assert a == b or (a != a and b != b)


def training(seed):
    """A module, its optimiser with moments, and the stream that both depend on; and a step of training them."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    opt = torch.optim.Adam(net.parameters(), lr=0.01, amsgrad=True)

    def step():
        x = torch.from_numpy(rng.normal(size=(16, 3)).astype(np.float32))
        opt.zero_grad()
        (net(x) - x.sum(1, keepdim=True)).square().mean().backward()
        opt.step()

    return net, opt, rng, step


@pytest.mark.parametrize("before", [0, 5])
def test_module_optimiser_and_stream_go_on_as_if_never_stopped(tmp_path, before):
    net, opt, rng, step = training(seed=1)
    for _ in range(before):
        step()
    assert save(tmp_path, before, net=net, opt=opt, rng=rng) == tmp_path / f"step-{before:08d}"
    for _ in range(5):
        step()
    other, opt2, rng2, step2 = training(seed=2)
    step2()
    assert load(tmp_path, net=other, opt=opt2, rng=rng2) == before
    for _ in range(5):
        step2()
    same(dict(net.state_dict()), dict(other.state_dict()))
    same(opt.state_dict(), opt2.state_dict())
    assert rng.bit_generator.state == rng2.bit_generator.state


@pytest.mark.parametrize("kind", BIT_GENERATORS)
def test_every_kind_of_stream(tmp_path, kind):
    rng, other = np.random.Generator(kind(1)), np.random.Generator(kind(2))
    rng.normal(size=7)
    rng.integers(5, dtype=np.int32)  # leaves half a draw in the state
    save(tmp_path, 1, rng=rng)
    load(tmp_path, rng=other)
    assert (
        rng.integers(1 << 30, size=9, dtype=np.int32).tolist()
        == other.integers(1 << 30, size=9, dtype=np.int32).tolist()
    )
    wrong = np.random.Generator(BIT_GENERATORS[BIT_GENERATORS.index(kind) - 1](0))
    with pytest.raises(CheckpointError, match=rf"part 'rng': it is a {kind.__name__} generator, here "):
        load(tmp_path, rng=wrong)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.sampled_from([np.float32(1.5), np.float64(-0.0), np.int64(3), np.bool_(True), np.uint64(2**64 - 1)]),
    st.sampled_from(["float16", "float64", "uint8", "uint16", "uint32", "uint64", "int64", "bool"]).flatmap(
        lambda dtype: st.sampled_from([(), (0,), (3,), (2, 0), (2, 3)]).map(lambda s: np.ones(s, dtype))
    ),
    st.sampled_from([torch.float32, torch.bfloat16, torch.bool, torch.int8, torch.int64]).flatmap(
        lambda dtype: st.sampled_from([(), (0,), (3,), (2, 3)]).map(lambda shape: torch.ones(shape, dtype=dtype))
    ),
)
KEYS = st.one_of(st.integers(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.just("a']['b"))
STATES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, STATES, max_size=3))
def test_every_state_comes_back_bit_for_bit(tmp_path_factory, state):
    folder = tmp_path_factory.mktemp("state")
    save(folder, 3, box=Box(state))
    box = Box()
    assert load(folder, box=box) == 3
    same(box.state, state)


def test_names_that_would_collide_views_and_tied_weights(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    state = {
        "a']['b": torch.ones(2),
        "a": {"b": torch.zeros(2)},
        "x": tied,
        "y": tied,
        "t": tied.T,
        "part": tied[:, 1:],
    }
    state["odd"] = {"dict": [1], "tensor": "box['x']"}
    state["strided"] = np.arange(12).reshape(3, 4)[::2, ::-1]
    save(tmp_path, 1, box=Box(state))
    box = Box()
    load(tmp_path, box=box)
    same(box.state, state)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({1, 2}, r"box\['x'\] is a set, which cannot be saved; give tensors, arrays, numbers, text, bool or None"),
        (object(), "is a object, which cannot be saved"),
        (b"bytes", "is a bytes, which cannot be saved"),
        (1j, "is a complex, which cannot be saved"),
        ([{"deep": print}], r"box\['x'\]\[0\]\['deep'\] is a builtin_function_or_method"),
        ({(1, 2): 3}, r"box\['x'\] has the key \(1, 2\); use text or whole numbers"),
        (np.array(["a"]), "is an array of <U1; save numbers or bool"),
        (np.array([object()]), "is an array of object; save numbers or bool"),
        (torch.zeros(2, dtype=torch.complex64), "is complex; save view_as_real of it"),
        (torch.eye(2).to_sparse(), "is a sparse or quantized tensor; save it dense"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path, bad, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        save(tmp_path, 1, box=Box({"x": bad}))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("step", "parts", "sentence"),
    [
        (-1, {"box": Box({})}, "step is -1; give a whole number, 0 or more"),
        (1.5, {"box": Box({})}, r"step is 1\.5; give a whole number"),
        (1, {}, "nothing to save; name the parts"),
        (1, {"box": 3}, "part 'box' is a int; give what has state_dict and load_state_dict, or a numpy Generator"),
    ],
)
def test_what_save_refuses(tmp_path, step, parts, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        save(tmp_path, step, **parts)


def test_none_to_load_and_two_kept(tmp_path):
    box = Box("untouched")
    assert load(tmp_path / "none", box=box) == 0 and box.state == "untouched"
    assert latest(tmp_path / "none") is None and not (tmp_path / "none").exists()
    for step in (0, 5, 99, 100_000_000, 100_000_001):
        save(tmp_path, step, box=Box({"step": step}))
        assert latest(tmp_path) == step == load(tmp_path, box=box) == box.state["step"]
    assert sorted(os.listdir(tmp_path)) == ["step-100000000", "step-100000001"]
    with pytest.raises(
        CheckpointError, match="already holds step 100000001, and step 7 would be taken for older; choose"
    ):
        save(tmp_path, 7, box=box)
    assert load(tmp_path, box=box) == 100_000_001


def test_saving_a_step_again_replaces_it(tmp_path):
    box = Box()
    for value in (1, 2):
        save(tmp_path, 4, box=Box({"value": value}))
        assert load(tmp_path, box=box) == 4 and box.state == {"value": value}
    assert os.listdir(tmp_path) == ["step-00000004"]


def test_what_a_kill_left_is_ignored_and_then_swept(tmp_path):
    save(tmp_path, 1, box=Box({"value": 1}))
    save(tmp_path, 2, box=Box({"value": 2}))
    (tmp_path / "step-00000003.tmp").mkdir()
    (tmp_path / "step-00000003.tmp" / "state.json").write_text("{")
    (tmp_path / "step-00000000.old").mkdir()
    (tmp_path / "step-00000002").rename(tmp_path / "step-00000002.bak")  # killed while replacing the only step 2
    (tmp_path / "clips").mkdir()
    box = Box()
    assert latest(tmp_path) == 2 == load(tmp_path, box=box) and box.state == {"value": 2}
    save(tmp_path, 3, box=Box({"value": 3}))
    assert load(tmp_path, box=box) == 3
    assert sorted(os.listdir(tmp_path)) == ["clips", "step-00000002", "step-00000003"]


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from embodied.checkpoint import load, save

class Box:
    def __init__(self, value=0):
        self.state = {"value": value, "large": torch.full((400_000,), float(value))}
    def state_dict(self):
        return self.state
    def load_state_dict(self, state):
        self.state = state

torch.set_num_threads(1)
random.seed(sys.argv[2])
for attempt in range(int(sys.argv[3])):
    same_step = attempt % 3 == 2
    folder = Path(sys.argv[1]) / ("again" if same_step else "next")
    box = Box()
    start = (load(folder, box=box), box.state["value"])[1]
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        value = start
        while True:
            value += 1
            save(folder, 9 if same_step else value, box=Box(value))
            os.write(writer, b".")
    os.close(writer)
    os.read(reader, 1)
    time.sleep(random.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    saved = 1
    while data := os.read(reader, 1000):
        saved += len(data)
    os.close(reader)
    step = load(folder, box=box)
    value = box.state["value"]
    assert start + saved <= value <= start + saved + 1, (start, saved, value)
    assert step == (9 if same_step else value)
    assert (box.state["large"] == value).all()
    print(value, flush=True)
"""


EVERY_LINE = """
import os, shutil, signal, sys
from pathlib import Path
import torch
from embodied import atomic, checkpoint

class Box:
    def __init__(self, value=0):
        self.state = {"value": value, "array": torch.full((10,), float(value))}
    def state_dict(self):
        return self.state
    def load_state_dict(self, state):
        self.state = state

torch.set_num_threads(1)
folder, box = Path(sys.argv[1]), Box()
before, step, line = int(sys.argv[2]), int(sys.argv[3]), 0
touch_files = {f.__code__ for f in (checkpoint.save, checkpoint._sweep, atomic.write, atomic.sync_folder)}

def trace(frame, what, _):
    global line
    if frame.f_code not in touch_files:
        return None
    if what == "line":
        line -= 1
        if not line:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace

for s in range(before):
    checkpoint.save(folder / "before", s + 1, box=Box(s + 1))
values = []
while True:  # a fork for every line, until one gets to the end
    line += 1
    here = shutil.copytree(folder / "before", folder / str(line))
    pid = os.fork()
    if not pid:
        sys.settrace(trace)
        checkpoint.save(here, step, box=Box(100))
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    found = checkpoint.load(here, box=box)
    value = box.state["value"]
    assert (box.state["array"] == value).all()
    assert (found, value) in ((before, before), (step, 100)), (line, found, value)
    values.append(value)
    checkpoint.save(here, step + 1, box=Box(101))
    assert checkpoint.load(here, box=box) == step + 1 and box.state["value"] == 101
    assert len(os.listdir(here)) == min(2, before + 1 + (step > before and value == 100)), os.listdir(here)
    if not status:
        break
assert values == sorted(values) and {before, 100} == set(values), values
print(len(values))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("before", "step"), [(1, 1), (1, 2), (3, 3), (2, 3)])
def test_kill_9_at_every_line_of_save_leaves_the_one_before_or_the_new(tmp_path, before, step):
    command = [sys.executable, "-c", EVERY_LINE, str(tmp_path), str(before), str(step)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 40


@pytest.mark.parametrize("kills", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_kill_9_during_save_leaves_the_one_before(tmp_path, kills):
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), "1", str(kills)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.split()) == kills


def test_a_full_disk_leaves_the_ones_before(tmp_path):
    save(tmp_path, 1, box=Box({"value": torch.ones(10)}))
    for step in (1, 2):
        with (
            file_size_limit(100_000),
            pytest.raises(
                CheckpointError, match=r"step-0000000\d cannot be written: the disk is full .*; free some space"
            ),
        ):
            save(tmp_path, step, box=Box({"value": torch.zeros(100_000)}))
        box = Box()
        assert load(tmp_path, box=box) == 1 and box.state["value"].equal(torch.ones(10))
        assert os.listdir(tmp_path) == ["step-00000001"]
    save(tmp_path, 2, box=Box({"value": torch.zeros(100_000)}))
    assert load(tmp_path, box=box) == 2


def test_a_fingerprint_of_something_else_is_refused(tmp_path):
    save(tmp_path, 1, env=Box({"a": 1}, "Arm-v0 with 7 joints"), plain=Box({"b": 1}))
    assert load(tmp_path, env=Box(fingerprint="Arm-v0 with 7 joints"), plain=Box()) == 1
    plain = Box("untouched")
    with pytest.raises(
        CheckpointError,
        match=r"checkpoint .*step-00000001 is of Arm-v0 with 7 joints, this env is Leg-v0; use the settings it",
    ):
        load(tmp_path, plain=plain, env=Box(fingerprint="Leg-v0"))
    assert plain.state == "untouched"
    with pytest.raises(CheckpointError, match="is of Arm-v0 with 7 joints, this env is without one"):
        load(tmp_path, env=Box())
    with pytest.raises(CheckpointError, match="is of something without a fingerprint, this plain is Leg-v0"):
        load(tmp_path, plain=Box(fingerprint="Leg-v0"))


def test_a_missing_part_is_named_and_one_not_asked_for_is_left(tmp_path):
    save(tmp_path, 1, a=Box({"x": 1}), b=Box({"x": 2}))
    box = Box("untouched")
    with pytest.raises(
        CheckpointError, match="step-00000001 has no part 'c', it holds a, b; ask for these, or save it too"
    ):
        load(tmp_path, a=box, c=Box())
    assert box.state == "untouched"
    assert load(tmp_path, b=box) == 1 and box.state == {"x": 2}


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (nn.Linear(4, 2), r"weight is \[2, 3\] float32, here \[2, 4\] float32"),
        (nn.Linear(3, 2).double(), r"weight is \[2, 3\] float32, here \[2, 3\] float64; bias is"),
        (nn.Linear(3, 2, bias=False), "it has bias more and nothing less"),
        (nn.Sequential(nn.Linear(3, 2)), "it has bias, weight more and 0.bias, 0.weight less"),
    ],
)
def test_a_module_of_another_shape_is_refused_untouched(tmp_path, other, sentence):
    save(tmp_path, 1, box=Box({"x": 1}), net=nn.Linear(3, 2))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    box = Box("untouched")
    with pytest.raises(
        CheckpointError, match=f"does not fit part 'net': {sentence}.*; build it as it was when it was saved"
    ):
        load(tmp_path, box=box, net=other)
    same(dict(other.state_dict()), before)
    assert box.state == "untouched"


def test_an_optimiser_of_other_parameters_is_refused(tmp_path):
    _, opt, _, step = training(seed=1)
    step()
    save(tmp_path, 1, opt=opt)
    few = torch.optim.Adam(nn.Linear(3, 8).parameters())
    with pytest.raises(CheckpointError, match="part 'opt': it is of 6 parameters, here 2"):
        load(tmp_path, opt=few)
    wide = nn.Sequential(nn.Linear(3, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 1))
    with pytest.raises(CheckpointError, match=r"exp_avg of parameter 0 is \[8, 3\] float32, here \[9, 3\] float32"):
        load(tmp_path, opt=torch.optim.Adam(wide.parameters()))


def test_parts_of_another_kind_are_refused(tmp_path):
    net, opt, rng, step = training(seed=1)
    step()
    save(tmp_path, 1, net=net, opt=opt, rng=rng, box=Box({"x": 1}), text=Box("text"))
    for saved, part in [
        ("net", opt),
        ("net", rng),
        ("rng", opt),
        ("box", rng),
        ("text", net),
        ("text", opt),
        ("text", rng),
    ]:
        save(
            tmp_path / saved,
            1,
            part={"net": net, "opt": opt, "rng": rng, "box": Box({"x": 1}), "text": Box("text")}[saved],
        )
        with pytest.raises(
            CheckpointError, match="does not fit part 'part': it was saved from something of another kind"
        ):
            load(tmp_path / saved, part=part)

    class Picky(Box):
        def load_state_dict(self, state):
            self.state = state["absent"]

    with pytest.raises(CheckpointError, match="does not fit part 'box': 'absent'"):
        load(tmp_path, box=Picky())


@pytest.mark.parametrize("name", ["arrays.safetensors", "state.json"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_damaged_checkpoint_names_itself_and_the_one_before(tmp_path, name, kept):
    save(tmp_path, 1, box=Box({"value": torch.zeros(50)}))
    path = save(tmp_path, 2, box=Box({"value": torch.ones(50)}))
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: int(kept * len(data))])
    box = Box("untouched")
    with pytest.raises(CheckpointError, match=r"step-00000002 is damaged .*; delete .*step-00000002 to go on from the"):
        load(tmp_path, box=box)
    assert box.state == "untouched"
    (path / name).unlink()
    with pytest.raises(CheckpointError, match="step-00000002 is damaged"):
        load(tmp_path, box=box)


def test_a_checkpoint_that_lacks_an_array_is_refused(tmp_path):
    path = save(tmp_path, 1, box=Box({"value": torch.zeros(50)}))
    other = save(tmp_path / "other", 1, box=Box({"another": torch.zeros(50)}))
    (other / "arrays.safetensors").rename(path / "arrays.safetensors")
    with pytest.raises(CheckpointError, match=r"step-00000001 is damaged \(KeyError"):
        load(tmp_path, box=Box())


def test_a_newer_checkpoint_is_refused(tmp_path):
    path = save(tmp_path, 1, box=Box({}))
    (path / "state.json").write_text((path / "state.json").read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(CheckpointError, match="has version 2, this program reads up to 1; update the program"):
        load(tmp_path, box=Box())
