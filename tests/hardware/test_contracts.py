import json
from dataclasses import asdict, replace

from embodied.contract import Contract, Joint, Source
from hardware.config import read
from hardware.contracts import objections
from hardware.gateway.policies import _raw
from hardware.link import Ask, Scene
from tests.hardware.harness import TWIN, toml, twin

SCENE = "[scene.cup]\nsize = 3\nunit = 'm'"
JOINTS = tuple(Joint(name, -1.5, 1.5) for name in TWIN)
SEES = (Source("angles", 3, "rad", "joint"), Source("cup", 3, "m", "scene"))
CONTRACT = Contract("bench", JOINTS, 20.0, "joint_position", SEES, (0.0,) * 6, (1.0,) * 6, (), "the cup stands")


def config(folder):
    path = toml(folder, "twin", TWIN)
    path.write_text(path.read_text() + "\n" + SCENE)
    return read(path)


def test_a_policy_that_was_made_for_this_robot(tmp_path):
    assert objections(config(tmp_path), CONTRACT) == []


def test_all_that_is_otherwise_is_named(tmp_path):
    other = replace(
        CONTRACT,
        joints=(Joint("shoulder", -1.5, 1.5), Joint("elbow", -2.0, 1.5), Joint("wrist", -1.5, 1.5)),
        action="joint_velocity",
        observation=(*SEES, Source("lid", 1, "m", "scene")),
        mean=(0.0,) * 7,
        std=(1.0,) * 7,
        cameras=("wrist",),
        rate=200.0,
    )
    found = " ".join(objections(config(tmp_path), other))
    for word in ("joint 'elbow': lower is -2.0", "joint_velocity", "[scene.lid]", "through wrist", "200 Hz"):
        assert word in found, found


def test_a_policy_that_is_slower_than_actions_are_followed(tmp_path):
    """It would be run faster than it was made for."""
    assert objections(config(tmp_path), replace(CONTRACT, rate=2.0)) == []
    assert objections(config(tmp_path), replace(CONTRACT, rate=1.9)) == [
        "the policy acts at 1.9 Hz, and actions are followed at 2 Hz or more"
    ]


def test_a_scene_of_another_size(tmp_path):
    sees = (SEES[0], Source("cup", 2, "m", "scene"))
    other = replace(CONTRACT, observation=sees, mean=(0.0,) * 5, std=(1.0,) * 5)
    assert "size is 2 for the policy, here it is 3" in " ".join(objections(config(tmp_path), other))


def test_more_joints_than_there_are_and_velocities_that_nobody_measures(tmp_path):
    moving = Source("speeds", 3, "rad/s", "joint")
    made = replace(CONTRACT, observation=(*SEES, moving), mean=(0.0,) * 9, std=(1.0,) * 9)
    here = config(tmp_path)
    assert objections(here, made, {"velocity"}) == objections(here, made) == []
    assert objections(here, made, ()) == ["the policy looks at 'speeds' (rad/s), and this arm measures no velocities"]
    sees = (Source("joint angles", 14, "rad", "joint"), SEES[1])
    many = replace(CONTRACT, observation=sees, mean=(0.0,) * 17, std=(1.0,) * 17)
    assert objections(here, many) == ["the policy looks at 14 'joint angles' (rad), the robot has 3 joints"]


def test_nothing_that_it_looks_at_is_here(tmp_path):
    alone = replace(CONTRACT, observation=(Source("lid", 1, "m", "scene"),), mean=(0.0,), std=(1.0,))
    assert objections(config(tmp_path), alone) == [
        "the policy looks at 'lid' of the scene, and the robot's file has no [scene.lid]"
    ]


def test_the_daemon_refuses_a_policy_of_another_robot(tmp_path):
    rig = twin(tmp_path)
    rig.arms()
    reply = rig.ask(Ask("start", rig.lease, "put it there", json.dumps(asdict(CONTRACT))))
    assert "cannot act here" in reply.refused and "[scene.cup]" in reply.refused
    assert "send the text of its contract.json" in rig.ask(Ask("start", rig.lease, "put it there")).refused
    assert rig.snapshots[-1].mode == "HOLD" and rig.carried.journal is None
    assert "not readable JSON" in rig.ask(Ask("start", rig.lease, "", "{")).refused
    own = replace(CONTRACT, observation=SEES[:1], mean=(0.0,) * 3, std=(1.0,) * 3)
    assert rig.ask(Ask("start", rig.lease, "put it there", json.dumps(asdict(own)))).refused == ""
    assert rig.carried.journal is not None
    rig.close()


def test_who_acts_has_been_told_where_things_are(tmp_path):
    here = config(tmp_path)
    assert objections(here, CONTRACT, told=()) == ["nobody has told where 'cup' of the scene is (3 numbers, m)"]
    assert objections(here, CONTRACT, told=("cup",)) == []


def test_the_daemon_starts_once_it_knows_where_things_are(tmp_path):
    start = json.dumps(asdict(CONTRACT))
    for name, layout in (("untold", ""), ("told", "\nvalue = [0.3, 0, 0.1]")):
        (tmp_path / name).mkdir()
        rig = twin(tmp_path / name, more=SCENE + layout)
        rig.arms()
        if not layout:
            assert "where 'cup' of the scene is" in rig.ask(Ask("start", rig.lease, "", start)).refused
            rig.ask(Scene(rig.lease, {"cup": (0.3, 0.0, 0.1)}))
        assert rig.snapshots[-1].scene == {"cup": (0.3, 0.0, 0.1)}
        assert not rig.ask(Ask("start", rig.lease, "", start)).refused
        rig.close()


def test_what_a_server_was_sent_is_told_where_the_contract_says_what_it_is(tmp_path):
    rig = twin(tmp_path, more=SCENE + "\nvalue = [0.3, 0, 0.1]")
    snapshot = rig.tick()
    rig.close()

    def raw(*sources):
        size = sum(source.size for source in sources)
        made = replace(CONTRACT, observation=sources, mean=(0.0,) * size, std=(1.0,) * size)
        return _raw(snapshot, made, snapshot.time_ns - 2_000_000_000).tolist()

    clock, moving = Source("seconds", 1, "s", "clock"), Source("speeds", 3, "rad/s", "joint")
    assert raw(clock, *SEES) == [2.0, *snapshot.position, 0.3, 0.0, 0.1]
    assert raw(moving, SEES[0]) == [*snapshot.velocity, *snapshot.position]
    for odd in (
        Source("tool", 3, "m", "joint"),
        Source("gripper", 1, "rad", "joint"),
        Source("last", 3, "1", "action"),
    ):
        assert raw(*SEES, odd) == []


def test_an_episode_has_one_policy(tmp_path):
    """Whom a person takes over from gets the arm back within it; another's steps would be booked as the first's."""
    own = replace(CONTRACT, observation=SEES[:1], mean=(0.0,) * 3, std=(1.0,) * 3)
    first, second = (json.dumps(asdict(replace(own, rate=rate))) for rate in (20.0, 10.0))
    rig = twin(tmp_path)
    rig.starts("teleop")
    assert "stop the arm, then start" in rig.ask(Ask("start", rig.lease, "", first)).refused
    rig.stop()
    rig.until("HOLD", 30)
    assert rig.ask(Ask("start", rig.lease, "", first)).refused == ""
    assert rig.ask(Ask("teleop", rig.lease)).refused == ""
    assert "another policy" in rig.ask(Ask("start", rig.lease, "", second)).refused
    assert rig.ask(Ask("start", rig.lease, "", first)).refused == ""
    rig.close()
