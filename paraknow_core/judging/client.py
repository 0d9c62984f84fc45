"""One question to a judge over HTTP: OpenAI's chat format, with bounded retries."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from paraknow_core.errors import ParaknowError
from paraknow_core.printable import printable

Wait = Callable[[float], object]
"""Waits so many seconds."""

_SHOWN: Final = 200
"""Characters of a server's words that an error repeats."""
_BUSY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same question may be answered."""
_REFUSED: Final = frozenset({400, 413, 422})
"""Statuses that are about the question, such as one that is too long for the judge."""
_LARGEST_ANSWER: Final = 16 * 1024 * 1024


class JudgeError(ParaknowError):
    """A judge gave no answer, however often it was asked.

    Attributes:
        hopeless: whether no other question will be answered either, such as with a wrong key.
    """

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        """Take the reason."""
        super().__init__(message)
        self.hopeless = hopeless

    def __reduce__(self) -> "tuple[type[JudgeError], tuple[str]]":
        """Keep the message when the error travels from a worker process."""
        return type(self), (str(self),)


class QuestionRefusedError(ParaknowError):
    """A judge refuses one question, such as one that is too long for it."""


@dataclass(frozen=True)
class Patience:
    """How long a judge is waited for.

    Attributes:
        seconds: for a connection, and between two pieces of an answer.
        attempts: how often a question is asked before it counts as not answered.
        first_wait: seconds between the first two attempts; doubled each time.
        longest_wait: the most seconds between two attempts. A server that asks for more
            (Retry-After) counts as not answering.
    """

    seconds: float = 120.0
    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 120.0


def url_fault(url: str) -> str:
    """Say why a text is no URL of a judge; empty if it is one."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL ({error})"
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", url):
        return "is no URL of a judge, such as https://api.openai.com/v1"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "may hold no user, password, query or fragment: the key is given by key_variable"
    return ""


@dataclass
class JudgeClient:
    """Asks one judge; may be used by several threads.

    Attributes:
        url: such as ``https://api.openai.com/v1``.
        key: sent as a bearer token; "": none. It is in no message and no representation.
        patience: bounds of waiting and asking again.
        wait: called with the seconds to wait between two attempts.
        asked: how many requests were sent, retries among them.
    """

    url: str
    key: str = field(repr=False, default="")
    patience: Patience = Patience()
    wait: Wait = lambda _seconds: None
    asked: int = 0

    def __post_init__(self) -> None:
        """Open a client; no connection is made yet."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        self._client = httpx.Client(timeout=self.patience.seconds, headers=headers)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def choice(
        self, body: Mapping[str, Any], accept: Callable[[Mapping[str, Any]], bool]
    ) -> dict[str, Any] | None:
        """Ask one question until there is an answer that says something.

        Args:
            body: of the request.
            accept: tells whether a choice says something; one that does not is asked for again.

        Returns:
            The answer's first choice. If every answer was nonsense, the last one's, or None if that
            held no choice.

        Raises:
            QuestionRefusedError: if the judge refuses this question.
            JudgeError: if no attempt was answered; says what the last one met.
        """
        told, answered, found = "", False, None
        for attempt in range(self.patience.attempts):
            try:
                found = self._once(body)
            except _BusyError as error:
                told = str(error)
                if error.after is not None and error.after > self.patience.longest_wait:
                    break
                if attempt + 1 < self.patience.attempts:
                    self.wait(self._pause(attempt) if error.after is None else error.after)
                continue
            answered = True
            if found is not None and accept(found):
                return found
        if answered:
            return found
        raise JudgeError(told)

    def _pause(self, attempt: int) -> float:
        return float(min(self.patience.first_wait * 2**attempt, self.patience.longest_wait))

    def _once(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the first choice of one answer, None if the answer holds none."""
        self.asked += 1
        place = f"{self.url.rstrip('/')}/chat/completions"
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            with self._client.stream("POST", place, content=data, headers=headers) as answer:
                text = self._text(answer)
                status, after = answer.status_code, answer.headers.get("Retry-After")
        except httpx.TimeoutException as error:
            raise _BusyError(f"no answer within {self.patience.seconds:g} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _BusyError(self._clean(f"{type(error).__name__}: {error}")) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise JudgeError(self._clean(str(error)), hopeless=True) from error
        if status == httpx.codes.OK:
            return _first_choice(text)
        said = self._clean(f"HTTP {status}: {_message(text)}")
        if status in _BUSY:
            raise _BusyError(said, _seconds(after))
        if status in _REFUSED:
            raise QuestionRefusedError(said)
        raise JudgeError(said, hopeless=True)

    @staticmethod
    def _text(answer: httpx.Response) -> str:
        data = b""
        for piece in answer.iter_bytes():
            data += piece
            if len(data) > _LARGEST_ANSWER:
                raise _BusyError(f"an answer of more than {_LARGEST_ANSWER:,} bytes")
        return data.decode(errors="replace")

    def _clean(self, text: str) -> str:
        """Cut a server's words, and take the key out that it may repeat."""
        hidden = text.replace(self.key, "[key]") if self.key else text
        return printable(hidden[:_SHOWN])


class _BusyError(Exception):
    """An attempt failed, and another one may not; ``after`` so many seconds, if that is known."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def _seconds(after: str | None) -> float | None:
    """Read Retry-After; a date, which would depend on the clock here, counts as not given."""
    try:
        found = float(after) if after is not None else None
    except ValueError:
        return None
    return found if found is not None and found >= 0 else None


def _first_choice(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)["choices"][0]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _message(text: str) -> str:
    try:
        said = json.loads(text)["error"]
        return str(said["message"] if isinstance(said, dict) else said)
    except (ValueError, KeyError, TypeError, RecursionError):
        return text or "nothing"
