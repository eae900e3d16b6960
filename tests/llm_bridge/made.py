"""Tokenizers made on the spot, by the real library, and templates such as models ship."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|head|>' + m.role + '<|/head|>\n\n' + m.content | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
)
# Its prompt ends with a blank that its answers, trimmed, begin without: the tokens merge otherwise.
TRIMS = (
    "{{ bos_token }}{% for m in messages %}{{ m.role + ':' + (' ' + m.content | trim if m.content | trim else '') + "
    "(eos_token if m.role == 'assistant' else '\n') }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
NO_BOS = (
    "{% for m in messages %}{{ m.role + '\n' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
)
STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As models that think do where an answer has no thoughts.
THINKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + "
    "('<think></think>' if m.role == 'assistant' else '') + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + "
    "('<think></think>' if enable_thinking is defined and not enable_thinking else '') }}{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "trims": TRIMS, "no_bos": NO_BOS, None: None}

SPECIAL = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>"]
WORDS = ["name", "a", "colour", "blue", "red", "green", "why", "not", "user", "assistant", "system", "Human", "x"]
CORPUS = [
    "user: name a colour\nassistant: blue is a colour, and so is red",
    "system: be brief. why not? because it is so",
    "\n\nHuman: hello there\n\nAssistant: hello, how are you",
] * 4


def _wrapped(core: Tokenizer, template: str | None, adds_bos: bool, **kwargs: Any) -> PreTrainedTokenizerFast:
    if adds_bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **kwargs}
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        additional_special_tokens=SPECIAL[3:],
        chat_template=template,
        **{name: token for name, token in names.items() if token is not None},
    )
    return made


def word_level(template: str | None = None, *, adds_bos: bool = False, **kwargs: Any) -> PreTrainedTokenizerFast:
    """Every word, blank and mark one token; WORDS are known. Decoding gives the very text back."""
    signs = [" ", "\n", ":", ".", ",", "?", "!"]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *WORDS, *signs])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|\W"), "isolated")
    core.decoder = decoders.Fuse()
    return _wrapped(core, template, adds_bos, **kwargs)


def bpe(template: str | None = None, *, adds_bos: bool = False, **kwargs: Any) -> PreTrainedTokenizerFast:
    """Byte pairs trained on CORPUS, blanks at the beginning of words; what it has not seen becomes bytes. Decoding
    gives the very text back, whatever Unicode it holds."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+| ?[^\w\s]+|\s+"), "isolated")
    core.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False))
    import json

    model = json.loads(core.to_str())["model"]
    vocabulary = dict(model["vocab"])
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    merges = [tuple(pair) for pair in model["merges"]]
    whole = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    whole.pre_tokenizer = core.pre_tokenizer
    whole.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    whole.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return _wrapped(whole, template, adds_bos, **kwargs)
