"""What is said in turns: messages, and a conversation as one readable text, out and in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embodied.checks import RecordError, check_text

ROLES = ("system", "user", "assistant")
_NAMES = {"system": "System", "user": "Human", "assistant": "Assistant"}
_ANSWER_OPENS = "\n\nAssistant:"
_TURN = re.compile(r"\n\n(System|Human|Assistant):")
# Other people's names of the roles: ShareGPT's, OASST's, HelpSteer's.
_ALIASES = {"human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "developer": "system"}


@dataclass(frozen=True)
class Message:
    """`content` as `role` said it. Raises RecordError for another role than ROLES, and for what is no text."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise RecordError(f"a message has role {self.role!r}; use one of {', '.join(ROLES)}")
        check_text(f"content of a message of the {self.role}", self.content)


Prompt = tuple[Message, ...]


def user(text: str) -> Prompt:
    """A prompt of one turn."""
    return (Message("user", text),)


def message_from(data: object) -> Message:
    """{"role", "content"}, or ShareGPT's {"from", "value"}; other keys are left. Raises RecordError."""
    if isinstance(data, Mapping):
        role, content = data.get("role", data.get("from")), data.get("content", data.get("value"))
        if data.get("tool_calls") or isinstance(content, list | tuple):
            raise RecordError("a message holds more than text (parts or tool calls); give text alone")
        if isinstance(role, str) and isinstance(content, str):
            return Message(_ALIASES.get(role, role), content)
    raise RecordError(f'a message is {str(data)[:60]!r}; give {{"role": "user", "content": "..."}}')


def messages_from(data: object) -> Prompt:
    if not isinstance(data, Sequence) or isinstance(data, str | bytes):
        raise RecordError(f"a conversation is {str(data)[:60]!r}; give a list of messages")
    return tuple(map(message_from, data))


def is_transcript(text: str) -> bool:
    """Whether a text is a conversation written out, as `transcript` and the HH data set write it."""
    return _TURN.match(text) is not None


def transcript(prompt: Sequence[Message], *, turns: bool = False) -> str:
    """What people read, and models without a template: of one turn of the user its words alone, otherwise (with
    `turns`: always) all turns and an open one of the assistant, "\\n\\nHuman: ...\\n\\nAssistant:" (arXiv 2204.05862).

    `conversation` is its inverse. Raises RecordError for words that would read as another turn.
    """
    alone = len(prompt) == 1 and prompt[0].role == "user" and prompt[0].content and not is_transcript(prompt[0].content)
    if not turns and (alone or not prompt):
        return prompt[0].content if prompt else ""
    for message in prompt:
        check_turn(message)
    return "".join(f"\n\n{_NAMES[m.role]}: {m.content}" for m in prompt) + _ANSWER_OPENS


def blank_after(prompt: str) -> str:
    """What stands between a prompt as `transcript` writes it and its answer."""
    return " " if prompt.endswith(_ANSWER_OPENS) else ""


def check_turn(message: Message) -> None:
    """Raises RecordError for words that would read as another turn of a transcript."""
    if found := _TURN.search(message.content):
        raise RecordError(
            f"a message of the {message.role} holds {found[0]!r}, which would read as another turn; take that out"
        )


def conversation(text: str) -> Prompt:
    """A prompt from its transcript, without the turn that is left open; any other text is one turn of the user."""
    turns = spoken(text)
    return turns[:-1] if turns[-1:] == (Message("assistant", ""),) else turns


def spoken(text: str) -> Prompt:
    """All turns of a transcript."""
    if not is_transcript(text):
        return user(text) if text else ()
    parts = _TURN.split(text)[1:]
    roles = {name: role for role, name in _NAMES.items()}
    return tuple(
        Message(roles[name], said.removeprefix(" ")) for name, said in zip(parts[::2], parts[1::2], strict=True)
    )
