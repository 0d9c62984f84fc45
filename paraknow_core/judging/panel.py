"""Asking one judge many questions: side by side, each once, and nothing lost of what it says."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, Protocol

from paraknow_core.judging.annotator import Annotator, text_of
from paraknow_core.judging.client import JudgeClient, JudgeError, QuestionRefusedError
from paraknow_core.judging.pairs import AnswerPair, Body, Choice, Judged, questions_of
from paraknow_core.judging.values import UNREAD
from paraknow_core.progress import Progress, no_progress

_IN_A_ROW: Final = 5
"""So many questions without an answer, one after another, and no further one is asked."""
_UNREAD_IN_A_ROW: Final = 10
"""The same for answers that cannot be read."""
_NAMED: Final = 5


class Kept(Protocol):
    """Where a judge's answers are kept, each by all that the question holds."""

    def find(self, body: Body) -> Choice | None:
        """Return the answer to a question that was asked before, if it is kept."""

    def keep(self, body: Body, choice: Choice) -> None:
        """Keep an answer."""


@dataclass(frozen=True)
class _Question:
    pair: str
    body: Body


class Panel:
    """One judge, how it is asked, and what it said before; it judges once.

    Args:
        client: asks the judge.
        annotator: how.
        model: the judge's name.
        kept: its earlier answers; every new one that can be read is kept at once.
        at_once: how many questions are asked at the same time.
        most_unread: the greatest share of questions whose answers may be unreadable.
        stop: ends waiting between attempts; set as soon as no further question is asked.
        check: called between answers; may raise to end the judging.
    """

    def __init__(
        self,
        client: JudgeClient,
        annotator: Annotator,
        model: str,
        kept: Kept,
        *,
        at_once: int = 1,
        most_unread: float = 0.1,
        stop: threading.Event | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._client, self._annotator, self._model, self._kept = client, annotator, model, kept
        self._at_once, self._most_unread = at_once, most_unread
        self._stop, self._check = stop or threading.Event(), check

    def judge(self, pairs: Sequence[AnswerPair], progress: Progress = no_progress) -> list[Judged]:
        """Judge pairs, asking only what was never answered before.

        Raises:
            JudgeError: if questions stay without an answer, or too many answers cannot be read:
                how many, which, and why. Every answer that can be read is kept.
        """
        asked = [(pair, questions_of(pair, self._annotator, self._model)) for pair in pairs]
        questions = [_Question(pair.id, body) for pair, both in asked for body in both]
        answers = iter(self._answers(questions, progress))
        judged = [self._judged(pair, [next(answers) for _ in both]) for pair, both in asked]
        unread = [one for one in judged if one.measured[UNREAD]]
        count = int(sum(one.measured[UNREAD] for one in unread))
        if count > self._most_unread * len(questions):
            raise self._unreadable(count, len(questions), [one.pair.id for one in unread], unread)
        return judged

    def _judged(self, pair: AnswerPair, choices: Sequence[Choice | None]) -> Judged:
        if not choices:
            return Judged(pair, None, None)
        read = [None if c is None else self._annotator.preference(c) for c in choices]
        said = tuple("" if c is None else text_of(c) for c in choices)
        return Judged(pair, read[0], read[1], (said[0], said[1]))

    def _answers(self, questions: Sequence[_Question], progress: Progress) -> list[Choice | None]:
        """Answer every question; those that are the same are one."""
        names = [json.dumps(question.body, sort_keys=True) for question in questions]
        once: dict[str, _Question] = {}
        for name, question in zip(names, questions, strict=True):
            once.setdefault(name, question)
        found: dict[str, Choice | None] = {}
        for name, question in once.items():
            if (known := self._kept.find(question.body)) is not None:
                found[name] = known
        if failures := self._ask(once, found, progress):
            raise self._lost(once, failures)
        return [found.get(name) for name in names]

    def _ask(
        self,
        questions: Mapping[str, _Question],
        found: dict[str, Choice | None],
        progress: Progress,
    ) -> dict[str, JudgeError]:
        """Ask what is not found yet, side by side; answers are kept in this thread, as they come.

        Returns:
            Question → why it has no answer; those that were not asked any more too.
        """
        waiting = [name for name in reversed(list(questions)) if name not in found]
        running = dict[Future[Choice | None], str]()
        failures: dict[str, JudgeError] = {}
        lost = unread = 0
        pool = ThreadPoolExecutor(self._at_once, thread_name_prefix="judge")
        try:
            while running or (waiting and not self._stop.is_set()):
                while waiting and len(running) < self._at_once and not self._stop.is_set():
                    name = waiting.pop()
                    running[pool.submit(self._one, questions[name].body)] = name
                for done in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    name = running.pop(done)
                    try:
                        found[name] = choice = done.result()
                    except JudgeError as error:
                        failures[name] = error
                        lost += 1
                    else:
                        reads = self._reads(choice)
                        lost, unread = 0, 0 if reads else unread + 1
                        if reads and choice is not None:
                            self._kept.keep(questions[name].body, choice)
                        progress(len(found), len(questions), "judged")
                    hopeless = name in failures and failures[name].hopeless
                    if hopeless or lost >= _IN_A_ROW or unread >= _UNREAD_IN_A_ROW:
                        self._stop.set()
                self._check()
        finally:
            self._stop.set()  # whoever waits for another attempt goes on at once
            pool.shutdown(wait=not running, cancel_futures=True)
        if failures:
            failures |= dict.fromkeys(waiting, next(iter(failures.values())))
        elif waiting:
            rows = [questions[name].pair for name, one in found.items() if not self._reads(one)]
            raise self._unreadable(len(rows), len(found), rows, [])
        return failures

    def _reads(self, choice: Choice | None) -> bool:
        return choice is not None and self._annotator.preference(choice) is not None

    def _one(self, body: Body) -> Choice | None:
        try:
            return self._client.choice(body, self._reads)
        except QuestionRefusedError:
            return None

    def _lost(
        self, questions: Mapping[str, _Question], failures: Mapping[str, JudgeError]
    ) -> JudgeError:
        rows = [question.pair for name, question in questions.items() if name in failures]
        reasons = Counter(str(error) for error in failures.values())
        reason, times = reasons.most_common(1)[0]
        said = reason if times == len(failures) else f"{reason}, and other reasons"
        return JudgeError(
            f"{self._name} left {len(failures)} of {len(questions)} questions without an answer, "
            f"about {_named(rows)}: {said}. What it answered is kept; run again to ask for the "
            "rest alone."
        )

    def _unreadable(
        self, count: int, whole: int, rows: Sequence[str], judged: Sequence[Judged]
    ) -> JudgeError:
        texts = (text for one in judged for text in one.said if text)
        example = next((f", such as {text[:60]!r}" for text in texts), "")
        return JudgeError(
            f"{self._name} gave {count} of {whole} answers that {self._annotator.parser} cannot "
            f"read{example}, or refused the question, about {_named(rows)}; allowed are "
            f"{100 * self._most_unread:g} % (judge.most_unread). The others are kept. Take "
            "annotators that the judge follows (judge.annotators), or another judge."
        )

    @property
    def _name(self) -> str:
        return f"the judge {self._model} at {self._client.url}"


def _named(rows: Sequence[str]) -> str:
    each = list(dict.fromkeys(rows))
    more = " …" if len(each) > _NAMED else ""
    return f"{len(each)} test rows ({', '.join(map(repr, each[:_NAMED]))}{more})"
