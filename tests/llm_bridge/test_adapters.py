"""An adapter's references: off, or a frozen one; and what training, saving and reading again leave as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from embodied.direct import Direct, direct
from embodied.feedback import Feedback
from embodied.fit import Objective, fit, fit_all, imitate, plus
from embodied.methods import dpo
from llm_bridge.adapters import Adapter, AdapterOff, freeze
from llm_bridge.lm import LM, AnchoredLM
from tests.llm_bridge import tiny


def adapted(seed: int = 0) -> LM:
    net = tiny.model()
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    return LM(get_peft_model(net, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.0)))


def pairs() -> Feedback:
    segments = tiny.texts(12, 2, 8, 8)
    one = torch.ones(12)
    return Feedback(segments, torch.tensor([1.0, 0.0]).repeat(12, 1), one, one.long() * 0, one.bool())


def train(lm: LM, reference: Any, steps: int = 4, seed: int = 0) -> None:
    import numpy as np

    opt = torch.optim.SGD([p for p in lm.parameters() if p.requires_grad], 0.5)
    fit(direct(lm, dpo(), reference), pairs(), opt, steps=steps, batch=6, rng=np.random.default_rng(seed))


def test_with_the_adapter_off_it_is_the_model_before() -> None:
    plain, lm = LM(tiny.model()), adapted()
    reference, segments = AdapterOff(lm), tiny.texts(5, 2, 8, 8)
    before = plain.log_prob(segments)
    train(lm, reference)
    assert torch.equal(reference.log_prob(segments), before.detach())
    assert (lm.log_prob(segments) - before).abs().max() > 1e-3


def test_its_kl_and_kto() -> None:
    """KTO counts from the exact KL, which an adapter that is off answers too."""
    import numpy as np

    from embodied.methods import kto

    lm, segments = AnchoredLM(adapted().model), tiny.texts(5, 2, 8, 8)
    reference = AdapterOff(lm)
    assert lm.kl(reference, segments).abs().max() < 1e-5
    opt = torch.optim.SGD([p for p in lm.parameters() if p.requires_grad], 0.5)
    fit(direct(lm, kto(), reference), pairs(), opt, steps=3, batch=6, rng=np.random.default_rng(0))
    away = lm.kl(reference, segments).detach()
    assert away[segments.mask].min() > 0
    assert torch.allclose(away, lm.kl(LM(tiny.model()), segments), atol=1e-5)


def test_the_base_model_is_untouched() -> None:
    lm = adapted()
    before = {k: v.clone() for k, v in AdapterOff(lm).state_dict().items()}
    train(lm, AdapterOff(lm))
    after = AdapterOff(lm).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert not any("lora" in key for key in after)


def test_a_run_that_goes_on_is_held_to_the_trained_adapter() -> None:
    lm, segments = adapted(), tiny.texts(5, 2, 8, 8)
    train(lm, AdapterOff(lm))
    trained = lm.log_prob(segments).detach()
    reference = freeze(lm)
    train(lm, reference)
    assert torch.equal(reference.log_prob(segments), trained)
    assert (lm.log_prob(segments) - trained).abs().max() > 1e-3
    assert (AdapterOff(lm).log_prob(segments) - trained).abs().max() > 1e-3  # what would have been wrong


def test_looking_at_the_reference_leaves_learning_as_it_was() -> None:
    lm = adapted()
    learns = [name for name, p in lm.named_parameters() if p.requires_grad]
    reference = freeze(lm)
    reference.log_prob(tiny.texts(2, 2, 4, 4))
    assert [name for name, p in lm.named_parameters() if p.requires_grad] == learns
    assert lm.model.active_adapter == "default"


def test_a_frozen_copy_of_a_model_without_adapter() -> None:
    lm = LM(tiny.model())
    with pytest.raises(TypeError, match=r"LlamaForCausalLM has no adapter to switch off; give Reference\(lm\)"):
        AdapterOff(lm)
    with pytest.raises(TypeError, match="no adapter to copy"):
        freeze(lm)
    other = adapted()
    freeze(other)
    with pytest.raises(ValueError, match="there is an adapter 'reference' already"):
        freeze(other)
    with pytest.raises(ValueError, match="no adapter 'later'"):
        Adapter(other, "later")


@pytest.mark.parametrize(("target", "what"), [("lm_head", "head"), ("embed_tokens", "embeddings")])
def test_an_adapter_on_the_ends_of_a_model_is_refused(target: str, what: str) -> None:
    from peft import LoraConfig, get_peft_model

    net = get_peft_model(tiny.model(tie_word_embeddings=False), LoraConfig(r=4, target_modules=[target]))
    with pytest.raises(ValueError, match=f"the adapter is on the model's {what}"):
        LM(net)
    whole = get_peft_model(
        tiny.model(tie_word_embeddings=False), LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"])
    )
    segments = tiny.texts(3, 2, 6, 6)
    assert (LM(whole).log_prob(segments) - tiny.plain(whole, segments)).abs().max() < 1e-5


def test_an_anchor_is_the_mean_over_all_kinds_and_parts() -> None:
    """Pairs and marks in one batch: the losses are those under one anchor, worked out by hand."""
    import numpy as np

    from embodied.methods import kto

    lm, before = AnchoredLM(tiny.model(), row=40), AnchoredLM(tiny.model(seed=1))
    objective = direct(lm, kto(), before)
    two, one = pairs(), good_alone(pairs())
    opt = torch.optim.SGD(lm.parameters(), 0.0)
    with torch.no_grad():
        away = [torch.where(d.segments.mask, lm.kl(before, d.segments), 0.0).sum(-1).flatten() for d in (two, one)]
        whole = Direct(lm, kto(), objective.reference, torch.cat(away).mean())
        expected = torch.cat([whole(two), whole(one)]).mean()
    found = fit_all(
        [(objective, two), (objective, one)], opt, steps=1, batch=1000, rng=np.random.default_rng(0), split=lm.parts
    )
    assert found.losses[0] == pytest.approx(float(expected), abs=1e-5)


def good_alone(data: Feedback) -> Feedback:
    """The first alternative alone, which is good."""
    segments = data.segments
    alone = replace(segments, act=segments.act[:, :1], mask=segments.mask[:, :1], log_prob=segments.log_prob[:, :1])
    return replace(data, segments=alone, target=data.target[:, :1])


def test_checkpointing_changes_nothing_but_memory() -> None:
    segments = tiny.texts(5, 2, 8, 8)
    found = []
    for sparing in (False, True):
        lm = LM(tiny.model()).train()
        if sparing:
            lm.model.gradient_checkpointing_enable({"use_reentrant": False})
        lm.log_prob(segments).sum().backward()  # type: ignore[no-untyped-call]
        found.append({name: p.grad for name, p in lm.named_parameters()})
    assert all(torch.allclose(found[0][name], grad, atol=1e-5) for name, grad in found[1].items())


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_parts_give_the_gradient_of_the_whole(method: str, summed: bool) -> None:
    """KTO's anchor too, which is a mean over all rows, also as a term of a sum."""
    import numpy as np

    from embodied import methods

    steps = []
    for row in (10_000, 40):
        lm = AnchoredLM(tiny.model(), row=row)
        opt = torch.optim.SGD(lm.parameters(), 0.1)
        objective: Objective = direct(lm, getattr(methods, method)(), AnchoredLM(tiny.model(seed=1)))
        if summed:
            objective = plus(objective, (0.1, imitate(lm)))
        fit(objective, pairs(), opt, steps=3, batch=12, rng=np.random.default_rng(0), split=lm.parts)
        steps.append({k: v.clone() for k, v in lm.state_dict().items()})
    assert len(LM(tiny.model(), row=40).parts(pairs().segments)) > 3
    assert all(torch.allclose(v, steps[1][k], atol=1e-6, rtol=0) for k, v in steps[0].items())


@pytest.mark.parametrize("merged", [False, True])
def test_out_and_in_again(tmp_path: Path, merged: bool) -> None:
    """Plain transformers and peft read what was written: the same log-probabilities, the same greedy answers."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from llm_bridge.folder import export

    lm = adapted()
    train(lm, AdapterOff(lm))
    segments = tiny.texts(4, 2, 6, 6)
    export(lm.model, tiny.tokenizer(), tmp_path / "out", merged=merged)
    if merged:
        again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    else:
        again = PeftModel.from_pretrained(tiny.model(), tmp_path / "out")
    again.eval()
    assert (tiny.plain(again, segments) - lm.log_prob(segments)).abs().max() < 1e-5
    ids = torch.tensor([[4, 5, 6]])
    config = dict(max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert torch.equal(again.generate(input_ids=ids, **config), lm.model.generate(input_ids=ids, **config))
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert "tokenizer.json" in files and not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    with pytest.raises(ValueError, match="is not empty; name a new folder"):
        export(lm.model, tiny.tokenizer(), tmp_path / "out")


def test_what_was_learned_to_end_an_answer_ends_it_in_plain_transformers(tmp_path: Path) -> None:
    """A template's end of turn, which is not the tokenizer's EOS."""
    from transformers import AutoModelForCausalLM

    from llm_bridge.folder import export
    from tests.llm_bridge.made import CHATML, bpe

    tokenizer = bpe(CHATML, pad_token="<unk>")
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    net = tiny.model(vocab_size=len(tokenizer), tie_word_embeddings=False)
    net.generation_config.eos_token_id = [1, 9]
    with torch.no_grad():
        net.lm_head.weight[stop] = 100 * net.lm_head.weight[stop]  # so that it comes soon
    export(net, tokenizer, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert set(again.generation_config.eos_token_id) == {1, 9, stop, tokenizer.eos_token_id}
    ids = torch.tensor([tokenizer.encode("name a colour")] * 8)
    found = again.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=True)
    for row in found[:, ids.shape[1] :].tolist():
        assert set(row[row.index(stop) + 1 :]) <= {tokenizer.pad_token_id}


def test_the_folder_is_that_of_plain_transformers(tmp_path: Path) -> None:
    from llm_bridge.folder import export

    net, tokenizer = tiny.model(), tiny.tokenizer()
    export(LM(net).model, tokenizer, tmp_path / "ours")
    net.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    assert {p.name for p in (tmp_path / "ours").iterdir()} == {p.name for p in (tmp_path / "theirs").iterdir()}
    with pytest.raises(ValueError, match="no adapter to merge"):
        export(net, tokenizer, tmp_path / "more", merged=True)
