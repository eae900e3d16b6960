"""Language models as judges and a server as sampler, from the command line: real HTTP servers on this machine, one that
compares by a rule and one that samples by a real model."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from llm_bridge.messages import user
from llm_bridge.text import encode, tokens
from rapport.lm.judges import judge_of
from rapport.lm.models import reward_of
from rapport.lm.verb import Evaluate
from tests.llm_bridge.made import CHATML, bpe
from tests.llm_bridge.sampling_server import modelled
from tests.llm_bridge.scripted import Reply, asked, chat, letter, serving
from tests.rapport.lm.conftest import copied, written
from tests.rapport.lm.test_lm import refused, result, run

A_PAGE = Reply(b"<html><body>Sign in to the proxy</body></html>", headers={"Content-Type": "text/html"})


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies are kept under runs/ of the folder where one is."""
    monkeypatch.chdir(tmp_path)


def shorter(number: int, body: dict[str, Any]) -> Reply:
    """Whichever has fewer words, but for a liking of the first place."""
    first, second = (len(text.split()) for text in asked(body))
    return Reply(letter(0.5 + 0.2 * np.sign(second - first) + 0.2))


def but(odd: dict[str, Reply]) -> Any:
    """Questions that hold one of these texts get that reply, or the rule's."""

    def script(number: int, body: dict[str, Any]) -> Reply:
        text = body["messages"][1]["content"]
        return next((reply for part, reply in odd.items() if part in text), None) or shorter(number, body)

    return script


def prompts(folder: Path) -> Path:
    some = [f"what is {a} 2 + 3 {b} ?" for a, b in ((1, 4), (2, 5), (6, 3), (7, 7), (4, 0), (5, 1), (3, 3), (8, 2))]
    return written(folder / "prompts.jsonl", [{"prompt": one} for one in some])


def online(nano: str, url: str, prompts: Path, out: Path, *more: object) -> tuple[object, ...]:
    go = ("online", "--model", nano, "--prompts", prompts, "--prefer", f"{url}#tiny", "--k", 2, "--rollouts", 8)
    return (*go, "--steps", 6, "--every", 2, "--rate", "3e-3", "--out", out, *more)


def test_a_server_teaches_and_what_has_no_verdict_is_named_and_counted(
    nano: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One question is answered with a page of HTML, another is refused, each time; six others teach."""
    odd = {"what is 4 2 + 3 0 ?": A_PAGE, "what is 2 2 + 3 5 ?": Reply(chat(None, refusal="No."))}
    with serving(but(odd)) as heard:
        assert run(*online(nano, heard.url, prompts(tmp_path), tmp_path / "run", "--steps", 12)) == 0
        planned = capsys.readouterr().err
        rows = json.loads((tmp_path / "run" / "rows.json").read_text())
    assert f"calls of {heard.url}#tiny at most" in planned
    assert "answers 0 and 1 of row" in planned and "'what is 4 2 + 3 0 ?'" in planned
    assert "status 200 with text/html" in planned and "the judge refused" in planned and "count as ties" in planned
    shares = [row["rollout_without_verdict"] for row in rows[1:]]
    assert max(shares) > 0 and all(0 <= share <= 0.5 for share in shares)
    assert rows[0]["wins"] == 0.5 and rows[-1]["wins"] > 0.5 and rows[-1]["length"] < rows[0]["length"]
    assert heard.times("what is 2 2 + 3 5 ?") > 0 and result(tmp_path / "run")["after"]["wins"] == rows[-1]["wins"]


def test_a_server_that_dies_stops_the_run_which_goes_on_and_pays_nothing_twice(
    nano: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = prompts(tmp_path)
    whole, part = tmp_path / "whole", tmp_path / "part"
    honest = but({"what is 1 2 + 3 4 ?": Reply(chat(None, refusal="No."))})
    with serving(honest) as heard:
        go = online(nano, heard.url, asks, whole)
        assert run(*go) == 0
        calls = len(heard.seen)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where nothing is kept of before
    dead: list[int] = []

    def mortal(number: int, body: dict[str, Any]) -> Reply:
        if number >= 2 * calls // 3 and len(dead) < 40:
            dead.append(number)
            return A_PAGE
        reply: Reply = honest(number, body)
        return reply

    with serving(mortal) as heard:
        go = online(nano, heard.url, asks, part)
        said = refused(capsys, *go)
        assert "failed one after another" in said and "in place of JSON" in said
        assert len(json.loads((part / "rows.json").read_text())) >= 2
        dead += range(40)  # it is well again
        good = [one for n, one in enumerate(heard.seen) if n not in dead[:40]]
        before = len(heard.seen)
        assert run(*go) == 0
        asked_before = {json.dumps(one.body, sort_keys=True) for one in good[: 2 * calls // 3]}
        assert not asked_before & {json.dumps(one.body, sort_keys=True) for one in heard.seen[before:]}
    assert any(row.get("rollout_without_verdict") for row in json.loads((whole / "rows.json").read_text()))
    for name in ("rows.json", "model/model.safetensors"):
        assert (part / name).read_bytes() == (whole / name).read_bytes()


def test_a_judge_says_who_wins_and_a_second_time_costs_nothing(
    nano: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"what is 6 2 + 3 3 ?": A_PAGE}
    with serving(but(odd)) as heard:
        go = ("evaluate", "--model", nano, "--against", nano, "--prompts", prompts(tmp_path), "--k", 2)
        go = (*go, "--prefer", f"{heard.url}#tiny", "--rubric", "The shorter one.")
        assert run(*go, "--json") == 0
        told = capsys.readouterr()
        calls = len(heard.seen)
        assert run(*go, "--prefer", f"{heard.url}#tiny") == 0
        again = capsys.readouterr().out
        # Only what had no reply is asked for again.
        assert len(heard.seen) - calls == heard.times("what is 6 2 + 3 3 ?") // 2
    found = json.loads(told.out)["samples"]["preferred"]
    assert heard.seen[0].body["messages"][0]["content"] == "The shorter one."
    assert found["pairs"] == 16 and sum(found["without"].values()) > 0
    assert abs(found["wins"] - 0.5) < 0.3 and found["first"] == pytest.approx(0.7, abs=1e-9)
    assert "first row 2, 'what is 6 2 + 3 3 ?': no reply: status 200 with text/html" in told.err
    assert "by the judge: wins" in again and "without a verdict: no reply: status 200" in again


def local_judge(folder: Path) -> Path:
    """A causal model that knows two letters: its last layer writes a bias into them."""
    from transformers import AutoConfig, AutoModelForCausalLM

    words = bpe(CHATML)
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt_neox", vocab_size=len(words), max_position_embeddings=4096, **sizes)
    net: Any = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        net.gpt_neox.final_layer_norm.weight.fill_(0.3)
        net.gpt_neox.final_layer_norm.bias.fill_(1.0)
        for one in "AB":
            net.get_output_embeddings().weight[words(one, add_special_tokens=False)["input_ids"][0]] += 0.4
    net.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_all_kinds_of_judges_compare(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = tmp_path / "reward"
    assert run("reward", "--model", nano, "--data", pairs, "--steps", 2, "--every", 2, "--out", reward) == 0
    function = tmp_path / "judge.py"
    function.write_text(
        "def briefer(prompt, first, second):\n    return 0.9 if len(first) < len(second) else 0.4\n"
        "def odd(prompt, first, second):\n    return float('nan')\n"
    )
    go = ("evaluate", "--model", nano, "--against", nano, "--prompts", prompts(tmp_path), "--k", 2, "--json")
    seen = {}
    for name in (local_judge(tmp_path / "local"), reward, "gold", f"{function}:briefer"):
        capsys.readouterr()
        assert run(*go, "--prefer", name) == 0
        seen[str(name)] = json.loads(capsys.readouterr().out)["samples"]["preferred"]
    assert all(found["pairs"] == 16 and not found["without"] for found in seen.values())
    assert all(0 < found["wins"] < 1 and not math.isnan(found["wins_error"]) for found in seen.values())
    assert seen["gold"]["first"] == pytest.approx(0.5) and seen[str(reward)]["consistent"] == 1
    assert "gave nan for 'what is" in refused(capsys, *go, "--prefer", f"{function}:odd")
    out = tmp_path / "online"
    learns = ("online", "--model", nano, "--prompts", pairs, "--steps", 1, "--every", 1, "--k", 2, "--rollouts", 4)
    assert run(*learns, "--prefer", tmp_path / "local", "--out", out) == 0
    assert result(out)["before"]["wins"] == 0.5 and result(out)["after"]["rollout_without_verdict"] == 0


def test_a_reward_model_of_the_hub_compares_by_its_reward(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's own cache has it, without the hub."""
    run_of = ("reward", "--model", nano, "--data", pairs, "--steps", 1, "--every", 1, "--out", tmp_path / "reward")
    assert run(*run_of) == 0
    kept = tmp_path / "hub" / "models--somebody--reward"
    shutil.copytree(tmp_path / "reward" / "model", kept / "snapshots" / "1a2b")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("1a2b")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    seen = []
    for name in (tmp_path / "reward", "somebody/reward"):
        capsys.readouterr()
        go = ("evaluate", "--model", nano, "--against", nano, "--prompts", prompts(tmp_path), "--k", 2, "--json")
        assert run(*go, "--prefer", name) == 0
        seen.append(json.loads(capsys.readouterr().out)["samples"]["preferred"])
    assert seen[0] == seen[1] and seen[0]["consistent"] == 1
    assert "somebody/else cannot be loaded" in refused(capsys, *go, "--prefer", "somebody/else")


def test_a_reward_reads_texts_as_it_learned_them(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From plain texts, by a tokenizer that has a template."""
    folder = copied(nano, tmp_path / "model")
    words = AutoTokenizer.from_pretrained(folder)
    words.chat_template = (
        "{% for m in messages %}{{ 'what ' + m.content + ' ' }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    )
    words.save_pretrained(folder)
    go = ("--data", pairs, "--steps", 1, "--every", 1, "--plain", "--out", tmp_path / "run")
    assert run("reward", "--model", folder, *go) == 0
    said = [(user("what is 1 2 + 3 4 ?"), [" the answer is 1 .", " you fool !"])]
    judge = judge_of(str(tmp_path / "run"), Evaluate(model=str(folder)), words, lambda segments: said)
    reward, _, plain = reward_of(str(tmp_path / "run"), Evaluate(model=str(folder)))
    written, plainly = (encode(words, [said[0][0]], [said[0][1]], plain=plain).segments for plain in (False, True))
    assert plain and torch.allclose(judge(written), reward(plainly), atol=1e-6)
    assert (reward(plainly) - reward(written)).abs().max() > 1e-3
    told = []
    for more in ((), ("--plain",)):
        capsys.readouterr()
        assert run("evaluate", "--model", tmp_path / "run", "--data", pairs, "--json", *more) == 0
        told.append(json.loads(capsys.readouterr().out)["foretold"])
    assert told[0] == told[1]


def test_what_is_no_number_is_never_the_best(nano: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    function = tmp_path / "worth.py"
    function.write_text("def odd(prompt, answers):\n    return [1.0, float('nan'), 2.0]\n")
    judged = ("--model", nano, "--prompts", prompts(tmp_path), "--k", 3)
    said = f"{function}:odd gave nan for answer 1 of row 0, 'what is 1 2 + 3 4 ?': give finite rewards"
    assert said in refused(capsys, "sample", *judged, "--best-of", f"{function}:odd")
    assert said in refused(capsys, "evaluate", *judged, "--reward", f"{function}:odd")


def test_a_special_token_in_one_answer_spoils_no_other(nano: str, pairs: Path, tmp_path: Path) -> None:
    """Read by a reward model with another tokenizer: the answer that it cannot write is worth the least."""
    other = copied(nano, tmp_path / "other")
    words = json.loads((other / "tokenizer.json").read_text())
    words["model"]["vocab"]["extra"] = max(words["model"]["vocab"].values()) + 1
    (other / "tokenizer.json").write_text(json.dumps(words))
    assert run("reward", "--model", nano, "--data", pairs, "--steps", 1, "--every", 1, "--out", tmp_path / "run") == 0
    shutil.copy(other / "tokenizer.json", tmp_path / "run" / "model" / "tokenizer.json")
    said = [" the answer is 1 .", " <eos> the answer", " you fool !"]
    here = AutoTokenizer.from_pretrained(nano)
    rows = [(user("what is 1 2 + 3 4 ?"), said), (user("what is 2 2 + 3 4 ?"), [said[0]] * 3)]

    def judged(said: list[tuple[Any, list[str]]]) -> torch.Tensor:
        """By the words alone."""
        judge = judge_of(str(tmp_path / "run"), Evaluate(model=nano), here, lambda segments: said)
        return judge(tokens([[1]] * len(said), [[[2]] * len(said[0][1])] * len(said)))

    found = judged(rows)
    assert torch.allclose(found[0, [0, 2]], judged([(rows[0][0], [said[0], said[2]])])[0], atol=1e-5)
    assert found[0, 1] == found[~torch.tensor([[False, True, False], [False] * 3])].min()


def test_held_out_is_what_the_run_held_out_however_it_is_named(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go = ("align", "--model", nano, "--data", "pairs.jsonl", "--steps", 1, "--every", 1, "--out", tmp_path / "run")
    assert run(*go) == 0
    found = []
    for name in ("pairs.jsonl", "./pairs.jsonl", pairs):
        capsys.readouterr()
        assert run("evaluate", "--model", tmp_path / "run", "--data", name, "--limit", 1000, "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["foretold"])
    assert found[0] == found[1] == found[2] and 0 < found[0]["pairs"] < 40


def test_a_run_is_evaluated_where_torchvision_is_another(nano: str, pairs: Path, tmp_path: Path) -> None:
    """In a process of its own, into which no test has put what transformers asks of torchvision."""
    go = ("--data", pairs, "--steps", 1, "--every", 1, "--out", tmp_path / "run")
    assert run("reward", "--model", nano, *go) == 0
    command = [sys.executable, "-m", "rapport", "lm", "evaluate", "--model", tmp_path / "run", "--data", pairs]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "pairs" in done.stdout, done.stderr


def test_a_server_draws_the_answers_by_the_law_that_it_is_told(
    nano: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM

    net: Any = AutoModelForCausalLM.from_pretrained(nano).eval()
    asks = prompts(tmp_path)
    bare = tmp_path / "bare"  # of what only speaks by the server nothing but the tokenizer is here
    shutil.copytree(nano, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    with serving(modelled(net, "model")) as heard:
        served = ("--server", f"{heard.url}#tiny")
        assert run("sample", "--model", bare, "--prompts", asks, "--k", 3, *served, "--best-of", "gold", "--json") == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(lines) == 8 and all(line["answers"][0].strip() and "reward" in line for line in lines)
        assert len(heard.seen) == 24 and not any("logprobs" in one.body for one in heard.seen)
        go = ("evaluate", "--model", nano, "--prompts", asks, "--k", 2, *served)
        assert run(*go, "--reference", nano) == 0
        told = capsys.readouterr().out
        assert "KL 0.000" in told and "the server against the model: ratio 1.0000" in told
        for law in (("--temperature", 0.7), ("--top-k", 5), ("--log-probs", "unknown")):
            assert "KL to the reference needs the log-probability that each token was drawn with" in refused(
                capsys, *go, "--reference", nano, *law
            )
        assert run(*go, "--temperature", 0.7) == 0  # with no reference nothing needs them
    with serving(modelled(net, "processed")) as heard:
        more = ("--temperature", 0.7, "--log-probs", "processed", "--reference", nano)
        assert run(*go[:-1], f"{heard.url}#tiny", *more) == 0
        assert "ratio 1.0000" in capsys.readouterr().out


def test_what_cannot_judge_or_sample_is_refused_in_a_sentence(
    nano: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(number: int, body: dict[str, Any]) -> Reply:
        return Reply({"error": {"message": "no such model"}}, 404)

    learns = ("online", "--model", nano, "--prompts", pairs, "--out", tmp_path / "run", "--k", 2)
    measures = ("evaluate", "--model", nano, "--prompts", pairs, "--limit", 2)
    with serving(missing) as heard:
        name = f"{heard.url}#tiny"
        for args, said in (
            ((*learns, "--prefer", heard.url), "names no model: give http://"),
            ((*learns, "--prefer", "https://me:secret@host/v1#m"), "url holds a password for host"),
            ((*learns, "--reward", name), "name it with --prefer"),
            ((*learns, "--prefer", name, "--most-calls", 10), "raise --most-calls 10"),
            ((*learns, "--prefer", name, "--extra-body", "{"), "--extra-body '{' is no JSON object"),
            ((*learns, "--prefer", name, "--steps", 1), "has no model 'tiny'"),
            ((*learns, "--prefer", nano, "--steps", 1), "writes A and B alike"),
            ((*measures, "--prefer", name), "give --against MODEL"),
            ((*measures, "--against", nano), "give --reward or --prefer"),
            ((*measures, "--server", name), "has no model 'tiny'"),
            ((*learns, "--reward", nano), "is no reward model but LlamaForCausalLM"),
        ):
            assert said in refused(capsys, *args), args
    assert not (tmp_path / "run").exists()
