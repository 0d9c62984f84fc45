"""From what a row says to a prompt and an answer: instruction, examples, question, template."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from paraknow_core.data.examples import Example
from paraknow_core.data.templates import Message, Template
from paraknow_core.data.wording import Fewshot, Wording
from paraknow_core.errors import DataError

NO_SHOTS, AS_IT_IS = Fewshot(), Wording()


@dataclass(frozen=True)
class Draft:
    """A row that was read, before it is put into one prompt.

    Attributes:
        id: of the row.
        where: its file and line, for errors.
        turns: before the question, a system prompt among them.
        instruction: stands once, before any example.
        question: the row's own.
        asker: the role of the turn that holds it; a conversation may end otherwise than with the
            user's.
        answers: the right ones; the first is the one that is learned. None in a row without.
        group: examples are rows that have the same one.
        tokenised: the row itself, where it came as token numbers.
    """

    id: str
    where: str
    turns: tuple[Message, ...] = ()
    instruction: str = ""
    question: str = ""
    asker: str = "user"
    answers: tuple[str, ...] = ()
    group: str = ""
    tokenised: Example | None = field(default=None, repr=False)


def to_example(
    draft: Draft,
    *,
    template: Template,
    wording: Wording,
    fewshot: Fewshot = NO_SHOTS,
    shots: Sequence[Draft] = (),
) -> Example:
    """Put a row into words.

    Args:
        draft: the row.
        template: turns a conversation into prompt and answer.
        wording: system prompt and prefix; its templates are filled in already.
        fewshot: how examples are laid out.
        shots: the examples, in the order in which they are to stand.

    Raises:
        DataError: with the row's place, if the template cannot take its turns, or an example has
            no answer, or one of the two is given as token numbers.
    """
    if draft.tokenised is not None:
        if shots:
            raise DataError(
                f"{draft.where}: a row of token numbers can have no examples before it; give its "
                "text, or leave data.fewshot out"
            )
        return draft.tokenised
    try:
        asked, blocks = _before(draft, wording, fewshot, shots)
        question = fewshot.separator.join((*blocks, draft.question))
        answer = draft.answers[0] if draft.answers else ""
        turns = [*asked, Message(draft.asker, question), Message("assistant", answer)]
        prompt, answer = template(turns)
    except DataError as error:
        raise DataError(f"{draft.where}: {error}") from None
    if wording.prefix:
        prompt, answer = prompt + wording.prefix, _after(wording.prefix, answer)
    # A conversation of several turns is compared whole, unless examples stand before it.
    has_more = bool(shots) or (wording != AS_IT_IS and not draft.turns)
    return Example(
        draft.id,
        prompt,
        answer,
        references=tuple(_without(wording.prefix, text) for text in draft.answers[1:]),
        own=draft.question if has_more else "",
    )


def _before(
    draft: Draft, wording: Wording, fewshot: Fewshot, shots: Sequence[Draft]
) -> tuple[list[Message], list[str]]:
    """The turns before the question's, and what stands before the question in its own turn."""
    turns = list(draft.turns)
    if wording.system and not (turns and turns[0].role == "system"):
        turns.insert(0, Message("system", wording.system))
    blocks = [draft.instruction] if draft.instruction else []
    for shot in shots:
        question, answer = _shown(shot, wording)
        if fewshot.layout == "text":
            blocks.append(f"{question}{fewshot.joint}{answer}")
            continue
        said = f"{wording.prefix}{_after(wording.prefix, answer)}" if wording.prefix else answer
        asked = fewshot.separator.join((*blocks, question))
        turns += [Message("user", asked), Message("assistant", said)]
        blocks = []
    return turns, blocks


def _shown(shot: Draft, wording: Wording) -> tuple[str, str]:
    if shot.tokenised is not None or not shot.answers:
        lack = "is given as token numbers" if shot.tokenised is not None else "has no answer"
        raise DataError(f"the few-shot example {shot.id!r} ({shot.where}) {lack}; it needs texts")
    return shot.question, _without(wording.prefix, shot.answers[0])


def _without(prefix: str, answer: str) -> str:
    """The answer without a prefix that it begins with already."""
    if not prefix:
        return answer
    return answer.strip().removeprefix(prefix.strip()).strip()


def _after(prefix: str, answer: str) -> str:
    """The answer as it goes on after the prefix."""
    rest = _without(prefix, answer)
    return rest if not rest or prefix[-1:].isspace() else f" {rest}"
