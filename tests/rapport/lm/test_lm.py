"""`rapport lm`: every verb and method runs and is measured, what was planted is learned, and nonsense is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rapport.align.methods import METHODS
from rapport.cli import main
from rapport.lm import verb
from rapport.lm.evaluate import foretold
from rapport.lm.models import MemoryFull, memory
from tests.llm_bridge import public_rows
from tests.rapport.lm.conftest import copied, written

TINY = ("--steps", "4", "--every", "2", "--batch", "16")


CONVERSATIONAL = [
    {
        "prompt": [{"role": "user", "content": "what is 1 2 + 3 4 ?"}],
        "chosen": [{"role": "assistant", "content": "the answer is 0 4 6 ."}],
        "rejected": [{"role": "assistant", "content": "you fool !"}],
    }
] * 2
UNPAIRED: list[dict[str, Any]] = [
    {"prompt": "what is 1 2 + 3 4 ?", "completion": "the answer is 0 4 6 .", "label": True},
    {"prompt": "what is 1 2 + 3 5 ?", "completion": "you fool !", "label": False},
]


def run(*args: object) -> int:
    return main(["lm", *map(str, args)])


def result(out: Path) -> Any:
    return json.loads((out / "result.json").read_text())


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """What is said on exit code 2: one sentence, the last line."""
    capsys.readouterr()
    assert run(*args) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("rapport: ")
    return said


def test_the_command_line_names_every_method_that_arms_have() -> None:
    assert set(get_args(get_type_hints(verb.Align, include_extras=True)["method"])) == set(METHODS)


def test_imitation_copies_what_was_preferred_and_plain_transformers_speaks_it(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert (
        run(
            "sft",
            "--model",
            nano,
            "--data",
            pairs,
            "--steps",
            12,
            "--rate",
            "2e-4",
            "--batch",
            200,
            "--every",
            6,
            "--out",
            out,
        )
        == 0
    )
    shown = capsys.readouterr()
    assert "scored: [" in shown.err and "float32 on cpu" in shown.err and "held out" in shown.err
    rows = json.loads((out / "rows.json").read_text())
    assert [row["step"] for row in rows] == [0, 6, 12]
    assert rows[-1]["loss"] < rows[1]["loss"] and np.isfinite(rows[-1]["held_out_loss"])
    assert "<h1>Imitated" in (out / "report.html").read_text() and list((out / "tensorboard").iterdir())
    words: Any = AutoTokenizer.from_pretrained(out / "model")
    model: Any = AutoModelForCausalLM.from_pretrained(out / "model")
    prompt = words("what is 3 7 + 4 8 ?", return_tensors="pt")
    said = model.generate(input_ids=prompt["input_ids"], max_new_tokens=24, do_sample=False)
    assert said[0, -1] == words.eos_token_id


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("cpl", "em_preference")])
def test_every_method_of_alignment_takes_texts(method: str, nano: str, pairs: Path, tmp_path: Path) -> None:
    more = ("--set", "kind=js") if method == "f_dpo" else ()
    out = tmp_path / "run"
    assert run("align", "--model", nano, "--data", pairs, *TINY, "--out", out, "--method", method, *more) == 0
    found = result(out)
    assert all(np.isfinite(value) for value in found["after"].values() if value is not None)
    assert found["after"]["loss"] is not None and "moved" in found
    assert (found["after"].get("kl") is not None) == (method == "kto")


def test_what_is_preferred_becomes_likelier_and_the_reference_is_kept_beside_the_data(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dpo"
    go = ("align", "--model", nano, "--data", pairs, "--steps", 30, "--rate", "3e-3", "--every", 30)
    assert run(*go, "--out", out) == 0
    found = result(out)
    assert found["before"]["held_out_loss"] == pytest.approx(np.log(2), abs=1e-6)  # against itself
    assert found["after"]["accuracy"] > 0.9 and found["after"]["margin"] > 1
    (kept,) = pairs.parent.glob("pairs.jsonl.reference-*.safetensors")
    told = capsys.readouterr().err
    assert f"kept in {kept}" in told
    assert run(*go, "--out", tmp_path / "again") == 0
    assert f"known from {kept}" in capsys.readouterr().err
    ours, again = (load_file(folder / "model" / "model.safetensors") for folder in (out, tmp_path / "again"))
    assert all(torch.equal(ours[name], again[name]) for name in ours)


def test_an_adapter_learns_alone_against_the_model_without_it(nano: str, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "lora"
    kept = {file.name: file.read_bytes() for file in Path(nano).iterdir()}
    assert run("align", "--model", nano, "--data", pairs, *TINY, "--lora", 4, "--out", out) == 0
    assert result(out)["before"]["held_out_loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert "merged" not in json.dumps(result(out))
    state = json.loads(next((out / "checkpoints").glob("step-*/state.json")).read_text())
    names = json.dumps(state["parts"]["model"]["tree"])
    assert "lora_A" in names and "embed_tokens" not in names  # the base model is not saved over and over
    whole: Any = AutoModelForCausalLM.from_pretrained(out / "model")
    before: Any = AutoModelForCausalLM.from_pretrained(nano)
    ids = torch.arange(4, 14)[None]
    assert (whole(ids).logits - before(ids).logits).abs().max() > 1e-4
    # A run goes on from the adapter, and is held to it and not to the model without any.
    more = tmp_path / "more"
    assert run("align", "--model", out / "adapter", "--data", pairs, *TINY, "--out", more) == 0
    assert result(more)["before"]["held_out_loss"] == pytest.approx(np.log(2), abs=1e-6)
    merged: Any = AutoModelForCausalLM.from_pretrained(more / "model")
    assert (merged(ids).logits - whole(ids).logits).abs().max() > 1e-4
    names = [name for name in load_file(more / "adapter" / "adapter_model.safetensors") if "reference" in name]
    assert not names
    assert kept == {file.name: file.read_bytes() for file in Path(nano).iterdir()}


def test_em_preference_learns_who_can_be_trusted(nano: str, rows: list[dict[str, object]], tmp_path: Path) -> None:
    told = [{**row, "annotator": f"person {i % 2}"} for i, row in enumerate(rows)]
    data = written(tmp_path / "pairs.jsonl", told)
    go = ("align", "--model", nano, "--data", data, *TINY, "--method", "em_preference", "--out", tmp_path / "run")
    assert run(*go) == 0


def ranked(rows: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Answers of the first two rows together, ranked; and two qualities of each."""
    found: list[dict[str, object]] = []
    for row, other in zip(rows[::2], rows[1::2], strict=False):
        texts = list(dict.fromkeys([*row["completions"], *other["completions"]]))
        worth = [float("polite" in t or "good" in t) - float("fool" in t) for t in texts]
        scores = {"courtesy": worth, "brevity": [-float(len(t)) for t in texts]}
        rate = [1 + 2 * (w + 1) for w in worth]
        found.append({**row, "completions": texts, "said": {"rate": rate}, "scores": scores})
    return found


def test_a_reward_of_rankings_and_of_several_qualities(
    nano: str, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "ranked.jsonl", ranked(rows))
    go = ("reward", "--model", nano, "--data", data, "--steps", 40, "--rate", "3e-3", "--every", 20)
    assert run(*go, "--out", tmp_path / "listwise") == 0
    assert result(tmp_path / "listwise")["after"]["held_out_accuracy"] > 0.9
    out = tmp_path / "qualities"
    assert run(*go, "--qualities", "courtesy", "brevity", "--out", out) == 0
    found = result(out)["after"]
    assert found["held_out_accuracy_courtesy"] > 0.85 and found["held_out_accuracy_brevity"] > 0.85
    served: Any = AutoModelForSequenceClassification.from_pretrained(out / "model")
    assert served.config.num_labels == 2
    capsys.readouterr()
    assert run("evaluate", "--model", tmp_path / "listwise", "--json") == 0
    told = json.loads(capsys.readouterr().out)["foretold"]
    assert told["accuracy"] > 0.85 and 0 <= told["calibration_error"] < 0.5


@pytest.mark.parametrize("method", ["ppo", "rloo", "grpo", "p3o", "raft", "superhf", "best-of-n", "online-ipo"])
def test_every_method_of_learning_on_line_runs(method: str, nano: str, pairs: Path, tmp_path: Path) -> None:
    out, k = tmp_path / "run", "2" if method == "online-ipo" else "4"
    go = ("online", "--model", nano, "--prompts", pairs, "--reward", "gold", *TINY, "--rollouts", 6, "--k", k)
    assert run(*go, "--method", method, "--out", out) == 0
    found = result(out)
    assert all(np.isfinite(value) for value in found["after"].values())
    assert found["before"]["kl"] == pytest.approx(0, abs=1e-4) and found["after"]["length"] > 1
    assert (out / "model" / "model.safetensors").exists()


def test_short_answers_are_learned_from_a_judge_of_words(nano: str, pairs: Path, tmp_path: Path) -> None:
    """Gold of this model is all but noise; length is not: answers of 8 to 22 tokens, all but the shortest unlearned."""
    judge = tmp_path / "judge.py"
    judge.write_text(
        "def brief(prompt, answers):\n    return [-len(answer.split()) for answer in answers]\n"
        "def briefer(prompt, first, second):\n"
        "    one, other = len(first.split()), len(second.split())\n"
        "    return 0.5 + 0.5 * ((one < other) - (one > other))\n"
    )
    go = ("online", "--model", nano, "--prompts", pairs, "--steps", 20, "--every", 20, "--rate", "3e-3", "--kl", "0.01")
    for name, who in (("points", ("--reward", f"{judge}:brief")), ("pairs", ("--prefer", f"{judge}:briefer"))):
        out = tmp_path / name
        assert run(*go, *who, "--rollouts", 16, "--out", out) == 0
        found = result(out)
        assert found["before"]["length"] > 12 and found["after"]["length"] < 10
        assert found["after"]["kl"] > 0.1


def test_a_run_is_measured_against_where_it_began_and_against_another(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("sft", "--model", nano, "--data", pairs, *TINY, "--rate", "3e-3", "--out", out) == 0
    capsys.readouterr()
    go = ("evaluate", "--model", out, "--limit", 12, "--reward", "gold", "--against", nano, "--json")
    assert run(*go) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["samples"]["wins"] < 1 and found["samples"]["kl"] > 0 and found["foretold"]["pairs"] > 5
    # The sum over all answers and the estimate from samples are of the same KL.
    assert found["gold"]["kl"]["value"] > 0
    assert (
        run(
            "evaluate",
            "--model",
            nano,
            "--reference",
            nano,
            "--reward",
            "gold",
            "--against",
            nano,
            *go[3:5],
            "--prompts",
            pairs,
            "--json",
        )
        == 0
    )
    same = json.loads(capsys.readouterr().out)
    assert same["samples"]["kl"] == 0 and abs(same["samples"]["wins"] - 0.5) < 4 * same["samples"]["wins_error"]
    assert same["gold"]["kl"]["value"] == pytest.approx(0, abs=1e-6)


def test_samples_are_printed_and_written_and_the_best_is_kept(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sample", "--model", nano, "--ask", "what is 1 2 + 3 4 ?", "--k", 3) == 0
    assert capsys.readouterr().out.startswith("> what is 1 2 + 3 4 ?\n")
    file = tmp_path / "said.jsonl"
    assert (
        run("sample", "--model", nano, "--prompts", pairs, "--limit", 5, "--k", 4, "--best-of", "gold", "--out", file)
        == 0
    )
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(told) == 5 and all(len(row["answers"]) == 1 for row in told)
    assert run("sample", "--model", nano, "--prompts", pairs, "--out", file) == 2
    for _ in range(2):
        assert run("sample", "--model", nano, "--prompts", pairs, "--limit", 3, "--seed", 5, "--json") == 0
    half = capsys.readouterr().out.splitlines()[-6:]
    assert half[:3] == half[3:]


def test_samples_that_broke_off_go_on(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a server leaves one answer out: what was said before is kept, and the whole is as if nothing had been."""
    monkeypatch.setattr("rapport.lm.sample.AT_ONCE", 8)
    judge, left, file = tmp_path / "judge.py", tmp_path / "left", tmp_path / "said.jsonl"
    judge.write_text(
        "import pathlib\n"
        "def longest(prompt, answers):\n"
        "    left = pathlib.Path(__file__).with_name('left')\n"
        "    left.write_text(str(int(left.read_text()) - 1))\n"
        "    assert int(left.read_text()) >= 0, 'the judge has gone home'\n"
        "    return [len(a) for a in answers]\n"
    )
    said = ("sample", "--model", nano, "--prompts", pairs, "--limit", 10, "--k", 2, "--best-of", f"{judge}:longest")
    left.write_text("100")
    assert run(*said, "--out", tmp_path / "whole.jsonl") == 0
    left.write_text("6")
    assert "the judge has gone home" in refused(capsys, *said, "--out", file) and not file.exists()
    part = tmp_path / "said.jsonl.part"
    whole = part.read_text()
    assert len(whole.splitlines()) == 2  # what it answers, and the first four prompts
    part.write_text(whole + "[\n")
    assert "is damaged" in refused(capsys, *said, "--out", file)
    part.write_text(whole + '[{"prompt": "torn')
    assert "(k differ)" in refused(capsys, *said[:-4], "--k", 3, *said[-2:], "--out", file)
    left.write_text("100")
    assert run(*said, "--out", file) == 0 and not part.exists()
    assert "8 of 10 prompts are answered" in capsys.readouterr().err
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_people_in_a_study_are_heard(nano: str, rows: list[dict[str, object]], tmp_path: Path, place: Any) -> None:
    """In a file or on a PostgreSQL server, whose address no file of the run tells: it may hold a password."""
    from llm_bridge.answers import to_store
    from llm_bridge.datasets import load
    from rapport.data_folder import open_folder

    study = tmp_path / "study"
    served = str(place).startswith("postgresql")
    with open_folder(study, make=True, place=place if served else None) as store:
        to_store(store, load(rows[:60]).records)
    go = ("--data", study, *(("--store", place) if served else ()))
    out = tmp_path / "run"
    assert run("align", "--model", nano, *go, *TINY, "--out", out) == 0
    assert "60 records" in result(out)["notes"][0]
    assert not any(str(place) in (out / name).read_text() for name in ("config.json", "result.json", "report.html"))


@pytest.mark.parametrize(
    ("data", "verb", "more"),
    [
        (public_rows.ULTRAFEEDBACK, "reward", ("--qualities", "honesty", "helpfulness")),
        (public_rows.ULTRAFEEDBACK_BINARIZED, "align", ()),
        (public_rows.HELPSTEER2, "reward", ()),
        (public_rows.HH, "align", ("--method", "ipo")),
        (CONVERSATIONAL, "align", ("--method", "simpo")),
        (UNPAIRED, "align", ("--method", "kto")),
        (UNPAIRED, "reward", ()),
        (UNPAIRED, "sft", ()),
    ],
    ids=["ultrafeedback", "binarised", "helpsteer", "hh", "conversational", "unpaired", "marks", "imitated"],
)
def test_public_shapes_train(
    data: list[dict[str, Any]], verb: str, more: tuple[str, ...], nano: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "data.jsonl", data)
    go = (verb, "--model", nano, "--data", file, "--steps", 1, "--every", 1, "--max-prompt", 20, "--max-answer", 20)
    assert run(*go, *more, "--out", tmp_path / "run") == 0
    assert np.isfinite(result(tmp_path / "run")["after"]["loss"])


def test_chances_are_held_against_what_was_said() -> None:
    """Two pairs with chances .8 and .6, both right: log-loss and calibration by hand."""
    gap = torch.logit(torch.tensor([0.8, 0.6]))
    found = foretold(torch.stack([gap, torch.zeros(2)], 1), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert found["accuracy"] == 1 and found["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2, abs=1e-6)
    assert found["calibration_error"] == pytest.approx((0.2 + 0.4) / 2, abs=1e-6)


def test_a_gpu_without_room_says_which_row_is_next() -> None:
    with pytest.raises(MemoryFull, match="with --row 4096: the same command with --row 2048 goes on"), memory(4096):
        raise torch.OutOfMemoryError
    with pytest.raises(MemoryFull, match="The computer's memory is full while sampling"), memory(512, "sampling"):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shapes"), memory(512):  # any other error is what it was
        torch.zeros(2, 3) @ torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("sft", "--model", "nowhere/at/all", "--data", "x"), "nowhere/at/all is not there"),
        (("sft", "--model", "NANO", "--data", "none.jsonl"), "none.jsonl cannot be read"),
        (("sft", "--model", "NANO", "--data", "PAIRS", "--steps", "0"), "--steps 0"),
        (("sft", "--model", "NANO", "--data", "PAIRS", "--device", "cuda"), "torch sees no GPU"),
        (("sft", "--model", "NANO", "--data", "PAIRS", "--dtype", "bfloat16"), "loses small steps"),
        (("align", "--model", "NANO", "--data", "PAIRS", "--set", "gamma=1"), "dpo can be told beta"),
        (("align", "--model", "NANO", "--data", "PAIRS", "--method", "cpl"), "take simpo or a method with a reference"),
        (("align", "--model", "NANO", "--data", "PROMPTS"), "holds nothing to learn from"),
        (("online", "--model", "NANO", "--prompts", "PAIRS"), "Give --reward or --prefer"),
        (("online", "--model", "NANO", "--prompts", "PAIRS", "--reward", "gold", "--k", "1"), "at least 2 answers"),
        (("online", "--model", "NANO", "--prompts", "PAIRS", "--reward", "NANO"), "is no reward model"),
        (
            (
                "online",
                "--model",
                "NANO",
                "--prompts",
                "PAIRS",
                "--reward",
                "gold",
                "--max-prompt",
                "64",
                "--top-p",
                "0",
            ),
            "top_p",
        ),
        (("evaluate", "--model", "NANO"), "Nothing is measured"),
        (("sample", "--model", "NANO"), "Nothing is asked"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(
    args: tuple[str, ...], said: str, nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = written(tmp_path / "prompts.jsonl", [{"prompt": "what is 1 2 + 3 4 ?"}])
    names = {"NANO": nano, "PAIRS": str(pairs), "PROMPTS": str(prompts)}
    out = ("--out", tmp_path / "run") if args[0] in ("sft", "align", "online") else ()
    assert said in refused(capsys, *(names.get(arg, arg) for arg in args), *out)


def test_a_tokenizer_without_an_end_is_refused_and_one_without_padding_is_mended(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("eos_token", "pad_token"):
        folder = copied(nano, tmp_path / key)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config.pop(key)
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    go = ("--data", pairs, *TINY, "--out", tmp_path / "run")
    assert "neither an end of turn nor EOS" in refused(capsys, "sft", "--model", tmp_path / "eos_token", *go)
    assert run("sft", "--model", tmp_path / "pad_token", *go) == 0
    assert "no padding token" in capsys.readouterr().err
    words: Any = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert words.pad_token == "<eos>"


def test_what_was_cut_or_left_out_is_counted(
    nano: str, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [{**rows[0], "completions": [" <eos> the answer", " <eos> you"]}, {**rows[1], "said": {"compare": 0.5}}]
    rows = [*rows[:-1], {**rows[-1], "completions": [" ", rows[-1]["completions"][1]]}]
    chatml = {**rows[2], "prompt": [{"role": "user", "content": "<|im_start|>user what is 1 2 + 3 4 ?"}]}
    data = written(tmp_path / "odd.jsonl", [*odd, chatml, *rows[3:]])
    assert (
        run(
            "sft",
            "--model",
            nano,
            "--data",
            data,
            *TINY,
            "--max-prompt",
            8,
            "--max-answer",
            9,
            "--out",
            tmp_path / "run",
        )
        == 0
    )
    told = capsys.readouterr().err
    assert f"1 records with an empty answer, left out: the first is record {len(rows)}, 'what is" in told
    assert "1 ties, left out" in told and "longer than --max-answer" in told
    assert "prompts are longer than --max-prompt, and lost their beginning" in told and "<bos> is " in told
    assert (
        "1 rows hold special tokens (written in a template already? then --plain), left out: the first is record 1, 'wh"
        in told
    )
    assert "1 records are written in another model's chat template" in told and "record 3, '<|im_start|>user" in told
    long = written(
        tmp_path / "long.jsonl",
        [{"prompt": "what is", "completion": " the" * 80}, *[{"prompt": "what", "completion": " the"}] * 9],
    )
    said = refused(capsys, "sft", "--model", nano, "--data", long, *TINY, "--out", tmp_path / "long")
    assert "has 84 tokens with its answer" in said and "the model takes 64" in said
    mixed = written(
        tmp_path / "mixed.jsonl",
        [
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            {"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"},
        ],
    )
    said = refused(capsys, "sft", "--model", nano, "--data", mixed, *TINY, "--out", tmp_path / "mixed")
    assert "line 2" in said and "write all rows in one way" in said


def test_a_judge_that_fails_names_the_row_and_the_run_goes_on_as_if_it_had_not(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The judge says NaN once, in the midst of a chunk: what was learned before is kept, and the end is the same."""
    judge = tmp_path / "judge.py"
    judge.write_text(
        "import pathlib\n"
        "def moody(prompt, answers):\n"
        "    mark = pathlib.Path(__file__).with_name('angry')\n"
        "    if mark.exists() and mark.read_text() != 'once':\n"
        "        left = int(mark.read_text()) - 1\n"
        "        mark.write_text('once' if left == 0 else str(left))\n"
        "        if left == 0:\n"
        "            return [float('nan')] * len(answers)\n"
        "    return [len(answer) for answer in answers]\n"
    )
    go = (
        "online",
        "--model",
        nano,
        "--prompts",
        pairs,
        "--reward",
        f"{judge}:moody",
        "--rollouts",
        4,
        "--method",
        "ppo",
    )
    go = (*go, "--steps", 6, "--every", 2)
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run(*go, "--out", whole) == 0
    # 1 row is shown, 64 are looked at before and after each chunk, 4 are judged in each round: the third round's last.
    (tmp_path / "angry").write_text(str(1 + 64 + 2 * 4 + 64 + 4))
    assert "gave nan for answer 0 of row 3" in refused(capsys, *go, "--out", part)
    assert len(json.loads((part / "rows.json").read_text())) == 2
    assert run(*go, "--out", part) == 0
    for name in ("rows.json", "samples.json", "model/model.safetensors"):
        assert (part / name).read_bytes() == (whole / name).read_bytes()
    assert "was made with other settings" in refused(capsys, *go, "--kl", "0.3", "--out", part)
