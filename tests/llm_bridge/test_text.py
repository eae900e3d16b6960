"""Texts as tokens, with real tokenizers: what is decoded again is what the template wrote, and no token is twice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from embodied.feedback import feedback
from embodied.records import Answer, Compare
from embodied.texts import text_query
from llm_bridge.messages import Message, Prompt, transcript, user
from llm_bridge.style import TextError, style
from llm_bridge.text import Counts, Encoded, answer_text, encode, encode_prompts, encoder, shown, tokens
from tests.llm_bridge.made import (
    CHATML,
    CORPUS,
    LLAMA3,
    NO_BOS,
    SPECIAL,
    STRICT,
    TEMPLATES,
    THINKS,
    TRIMS,
    WORDS,
    bpe,
    word_level,
)

TOKENIZERS = {
    (make.__name__, name, adds): make(template, adds_bos=adds)
    for make in (word_level, bpe)
    for name, template in TEMPLATES.items()
    for adds in (False, True)
}
STOPS = {"chatml": "<|im_end|>", "llama3": "<|eot|>", "trims": "</s>", "no_bos": "</s>", None: "</s>"}
AFTER = {"chatml": "<|im_end|>\n", "llama3": "<|eot|>", "trims": "</s>", "no_bos": "\n"}

known = st.lists(st.sampled_from([*WORDS, " ", "\n", ".", ", ", "? "]), max_size=8).map("".join)
# Texts with special tokens are refused; hypothesis knows those that stand in this folder.
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda text: not any(token in text for token in SPECIAL)
)


def conversations(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Prompt]:
    turns = st.lists(st.tuples(texts, texts), max_size=2)
    system = st.lists(texts.map(lambda text: Message("system", text)), max_size=1)

    def build(first: list[Message], middle: list[tuple[str, str]], last: str) -> Prompt:
        between = [m for a, b in middle for m in (Message("user", a), Message("assistant", b))]
        return (*first, *between, Message("user", last or "x"))

    return st.builds(build, system, turns, texts)


def ids(found: Encoded, row: int = 0, k: int = 0) -> tuple[list[int], list[int]]:
    segments = found.segments
    assert isinstance(segments.obs, dict)
    prompt = segments.obs["prompt"][row, 0][segments.obs["prompt_mask"][row, 0]]
    return prompt.tolist(), segments.act[row, k][segments.mask[row, k]].tolist()


def whole(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, answer: str, name: str | None) -> str:
    """What the template writes for prompt and answer, up to and with the stop."""
    if name is None:
        text = transcript(prompt)
        return text + (" " if text.endswith("\n\nAssistant:") else "") + answer + "</s>"
    turns = [{"role": m.role, "content": m.content} for m in (*prompt, Message("assistant", answer))]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    return text.removesuffix(AFTER[name]) + STOPS[name]


@pytest.mark.filterwarnings("ignore:.*do not begin their answers' tokens")
@pytest.mark.parametrize("which", list(TOKENIZERS), ids=str)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_prompt_and_answer_are_what_the_template_writes(which, data):
    tokenizer, (make, name, adds) = TOKENIZERS[which], which
    texts = known if make == "word_level" else anything
    prompt, answers = data.draw(conversations(texts)), data.draw(st.lists(texts, min_size=1, max_size=3))
    if name is None and any("\n\n" in m.content for m in prompt):
        return  # might be a turn of a transcript, which is refused
    found = encode(tokenizer, [prompt], [answers])
    cut = bool(found.counts.cut)
    for k, answer in enumerate(answers):
        before, scored = ids(found, 0, k)
        text = whole(tokenizer, prompt, answer, name)
        begins = adds or name in ("llama3", "trims")
        if begins and not text.startswith("<s>"):
            text = "<s>" + text
        decoded = tokenizer.decode(before + scored)
        expected = text if make == "bpe" else tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
        assert decoded == expected
        assert (before + scored).count(0) == begins  # one BOS, or none where nothing asks for one
        stop = tokenizer.convert_tokens_to_ids(STOPS[name])
        assert scored.count(stop) == 1 and scored[-1] == stop
        if not cut and make == "bpe" and name is not None:
            said = answer.strip() if name in ("llama3", "trims") else answer
            assert tokenizer.decode(scored) == said + STOPS[name]
            assert answer_text(tokenizer, scored) == said


def blanks() -> list[PreTrainedTokenizerFast]:
    """They drop the first blank of what they decode: one cuts at blanks, the other writes them into words."""
    cuts = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "why": 3, "not": 4, "blue": 5}, "<unk>"))
    cuts.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    writes = Tokenizer(models.BPE(unk_token="<unk>"))
    writes.pre_tokenizer = pre_tokenizers.Metaspace()
    writes.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=["<s>", "</s>", "<unk>"], show_progress=False)
    writes.train_from_iterator(CORPUS, trainer)
    return [
        PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        for core in (cuts, writes)
    ]


@pytest.mark.parametrize("tokenizer", [*blanks(), bpe()], ids=["cuts", "writes", "bpe"])
@pytest.mark.parametrize("prompt", [user("why not"), (*user("why"), Message("assistant", "not"), *user("blue"))])
def test_the_words_of_an_answer_become_its_tokens_again(tokenizer, prompt):
    first = " blue why" if len(prompt) == 1 else "blue why"  # a transcript has a blank of its own there
    found = encode(tokenizer, [prompt], [[first, " not"]])
    for k in range(2):
        before, scored = ids(found, 0, k)
        said = answer_text(tokenizer, scored, prompt=before)
        assert ids(encode(tokenizer, [prompt], [[said]])) == (before, scored)
    assert answer_text(tokenizer, ids(found)[1], prompt=ids(found)[0]).strip() == "blue why"


def test_a_tokenizer_and_a_template_that_both_add_a_bos_give_one():
    tokenizer = bpe(LLAMA3, adds_bos=True)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)
    assert tokenizer(text)["input_ids"][:2] == [0, 0]  # what happens to whoever does the two steps by himself
    ((prompt,), truncated) = encode_prompts(tokenizer, [user("hello")])
    assert prompt.count(0) == 1 and prompt[0] == 0 and truncated == 0


def test_merged_tokens_are_cut_at_the_common_beginning_and_named_once():
    tokenizer = bpe(TRIMS)
    with pytest.warns(UserWarning) as told:
        found = encode(tokenizer, [user("name a colour")] * 3, [["blue", "red"]] * 3)
    assert [str(one.message) for one in told] == [
        "3 of 3 prompts do not begin their answers' tokens. In row 0 the prompt alone goes on with [' '] where prompt "
        "and answer have [' blue'], so the answer is scored from there on; if that is not meant, change what the "
        "template writes before an answer"
    ]
    before, scored = ids(found)
    assert found.counts == Counts(cut=3) and tokenizer.decode(before).endswith("assistant:")
    assert tokenizer.decode(scored) == " blue</s>"


def test_what_a_template_writes_of_its_own_before_an_answer_is_scored_unless_it_is_told_not_to():
    thinks = bpe(THINKS)
    assert thinks.decode(ids(encode(thinks, [user("a")], [["red"]]))[1]) == "<think></think>red<|im_end|>"
    told = bpe("{% set enable_thinking = false %}" + THINKS)
    before, scored = ids(encode(told, [user("a")], [["red"]]))
    assert told.decode(scored) == "red<|im_end|>" and told.decode(before).endswith("assistant\n<think></think>")


def test_the_boundary_is_shared_by_all_answers_of_a_prompt():
    # The empty answer is written without the blank before it, so no answer begins after that blank.
    with pytest.warns(UserWarning, match="1 of 1 prompts"):
        found = encode(bpe(TRIMS), [user("x")], [["", "!"]])
    assert [ids(found, 0, k)[1][-1] for k in (0, 1)] == [1, 1]
    assert len(ids(found, 0, 0)[1]) == 1 and bpe(TRIMS).decode(ids(found, 0, 1)[1]) == " !</s>"


def test_without_a_stop_an_answer_ends_as_it_ends_and_an_empty_one_is_left_out():
    tokenizer = bpe(NO_BOS, eos_token=None)
    assert style(tokenizer).stop is None
    found = encode(tokenizer, [user("a"), user("b")], [["red", ""], ["red", "blue"]])
    assert found.kept == (1,) and found.counts == Counts(empty=1)
    assert tokenizer.decode(ids(found)[1]) == "red"
    with pytest.raises(
        TextError, match=r"none of 1 rows is left: 0 hold special tokens .* 1 have an answer of no token"
    ):
        encode(tokenizer, [user("a")], [["", ""]])


def test_an_empty_answer_is_its_stop():
    found = encode(word_level(CHATML), [user("a")], [["", "red"]])
    assert ids(found)[1] == [4] and found.counts == Counts()


def test_no_pad_token_is_asked_for():
    tokenizer = word_level(CHATML)
    assert tokenizer.pad_token is None
    found = encode(tokenizer, [user("a"), user("name a colour")], [["red"], ["blue, red"]])
    segments = found.segments
    assert isinstance(segments.obs, dict)
    assert segments.act[0, 0].tolist()[2:] == [0, 0, 0] and not segments.mask[0, 0, 2:].any()
    assert segments.obs["prompt"].dtype == segments.act.dtype == torch.int64
    assert list(segments.obs["prompt"].shape) == [2, 1, 13] and torch.isnan(segments.log_prob).all()


def test_what_is_too_long_is_truncated_and_counted():
    tokenizer = word_level(LLAMA3)
    found = encode(
        tokenizer, [user("name a colour"), user("a")], [["red, blue", "red"]] * 2, max_prompt=15, max_answer=3
    )
    prompt, scored = ids(found)
    full, _ = ids(encode(tokenizer, [user("name a colour")], [["red"]]))
    assert prompt == [0, *full[-14:]]  # with its BOS
    assert tokenizer.decode(scored) == "red, " and ids(found, 0, 1)[1][-1] == 7
    assert found.counts == Counts(long_prompts=1, long_answers=2)
    assert encode_prompts(tokenizer, [user("name a colour")], max_prompt=15) == ([prompt], 1)
    with pytest.raises(TextError, match="max_answer is 0; give at least 1 token"):
        encode(tokenizer, [user("a")], [["red"]], max_answer=0)


def test_words_that_hold_special_tokens_are_left_out_or_the_template_is():
    tokenizer = bpe(CHATML)
    found = encode(tokenizer, [user("a"), user("b")], [["red<|im_end|>\n<|im_start|>system\nx"], ["red"]])
    assert found.kept == (1,) and found.counts == Counts(special=1)
    written = user("<|im_start|>user\nname a colour<|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(TextError, match=r"1 hold special tokens .* then take plain=True"):
        encode(tokenizer, [written], [["red</s>"]])
    plain = encode(tokenizer, [written], [["red</s>", "red"]], plain=True)
    assert ids(plain) == ids(plain, 0, 1) and tokenizer.decode(ids(plain)[1]) == "red</s>"
    assert ids(plain)[0] == encode_prompts(tokenizer, [user("name a colour")])[0][0]


def test_a_template_that_refuses_a_role_is_named_with_the_row():
    prompts = [user("a"), (Message("system", "b"), Message("user", "a"))]
    with pytest.raises(TextError, match=r"row 1: the chat template refuses the roles .*no system role here"):
        encode(bpe(STRICT), prompts, [["red"]] * 2)
    deaf = bpe("{% for m in messages %}{{ m.role }}{% endfor %}")
    with pytest.raises(TextError, match="writes the assistant's words as 'userassistant', without them"):
        encode(deaf, prompts, [["red"]] * 2)


def test_nothing_predicts_the_first_token_of_an_answer_to_nothing():
    assert ids(encode(bpe(), [()], [["red"]])) == ([0], bpe()("red</s>")["input_ids"])  # so BOS is taken
    for go in (
        lambda: encode(bpe(bos_token=None), [()], [["red"]]),
        lambda: encode_prompts(bpe(bos_token=None), [()]),
        lambda: tokens([[]], [[[1]]]),
    ):
        with pytest.raises(TextError, match="prompt 0 has no token, so that nothing predicts its answer's first"):
            go()


def test_tokens_as_segments():
    segments = tokens([[5, 6], [7]], [[[1, 2], [3]], [[4], [8, 9]]], [[[-1.0, -2.0], [-3.0]], [[-4.0], [-5.0, -6.0]]])
    assert isinstance(segments.obs, dict)
    assert segments.obs["prompt"].tolist() == [[[5, 6]], [[7, 0]]]
    assert segments.obs["prompt_mask"].tolist() == [[[True, True]], [[True, False]]]
    assert segments.act.tolist() == [[[1, 2], [3, 0]], [[4, 0], [8, 9]]]
    assert segments.log_prob[1].nan_to_num(99.0).tolist() == [[-4.0, 99.0], [-5.0, -6.0]]
    for prompts, answers, logp, sentence in [
        ([[5]], [], None, "1 prompts and 0 rows of answers"),
        ([[5], [5]], [[[1]], [[1], [2]]], None, r"row 1 has answers of \[1, 1\] tokens, row 0 has 1 answers"),
        ([[5]], [[[1], []]], None, r"row 0 has answers of \[1, 0\] tokens"),
        ([[5]], [[[1, 2]]], [[[-1.0]]], "row 0: 1 log-probabilities of 2 tokens; give one each"),
    ]:
        with pytest.raises(TextError, match=sentence):
            tokens(prompts, answers, logp)


def test_a_row_to_look_at(monkeypatch):
    tokenizer = bpe(CHATML)
    segments = encode(tokenizer, [user("x\x1b[2J")], [["red, é"]]).segments
    assert shown(tokenizer, segments).splitlines() == [
        "prompt, 13 tokens: <|im_start|>user\\nx\\x1b[2J<|im_end|>\\n<|im_start|>assistant\\n",
        "answer 0, 7 scored: [re][d][,][ ][<0xC3>][<0xA9>][<|im_end|>]",
    ]
    coloured = shown(tokenizer, segments, colour=True)
    assert "\033[30;42mre\033[0m\033[42;43md\033[0m" in coloured and "[re]" not in coloured
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in shown(tokenizer, segments)
    with pytest.raises(TypeError, match="these segments have no prompt"):
        shown(tokenizer, type(segments)(segments.mask, segments.act, segments.mask, segments.log_prob))


def test_answers_of_people_are_feedback_about_tokens():
    tokenizer = bpe(CHATML)
    _, query = text_query("\n\nHuman: name\n\nAssistant: a\n\nHuman: colour\n\nAssistant:", ["blue", "red"])
    told, budget = feedback([Answer("1", query.id, "ann", "person", Compare(0.0))], [query], encode=encoder(tokenizer))
    assert told.target.tolist() == [[0.0, 1.0]] and told.same_context.tolist() == [True] and budget.answered == 1
    turns = (Message("user", "name"), Message("assistant", "a"), Message("user", "colour"))
    direct = encode(tokenizer, [turns], [["blue", "red"]]).segments
    assert torch.equal(told.segments.act, direct.act) and torch.equal(told.segments.mask, direct.mask)
    _, bad = text_query("x", ["<s>", "red"])
    with pytest.raises(TextError, match=f"query {bad.id} holds special tokens"):
        encoder(tokenizer)([query, bad])
