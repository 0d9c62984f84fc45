"""The settings of a judge: where it is, how it is asked, and how long it is waited for."""

import os
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from paraknow_core.errors import ConfigError
from paraknow_core.judging.annotator import USUAL, Annotator, read_annotator
from paraknow_core.judging.client import Patience, url_fault
from paraknow_core.setting_errors import HIDDEN
from paraknow_core.setting_types import Count, PathOrHubId, Seconds, Share, Text
from paraknow_core.settings import Settings, execution

Price = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
"""Of a million tokens."""


class JudgeConfig(Settings):
    """Who judges answers, and against what; without a URL nothing is judged, and that is told."""

    url: Text = execution(
        "",
        title="URL",
        description="Of an endpoint in OpenAI's format, such as http://localhost:8000/v1; empty: "
        "the win rate is not measured.",
    )
    model: Text = Field(
        "", title="Judge", description="The judging model's name; empty: as the annotators say."
    )
    key_variable: str = execution(
        "",
        max_length=64,
        title="Key's variable",
        description="Name of the environment variable that holds the API key, such as "
        "OPENAI_API_KEY; empty: no key is sent. The key itself is stored nowhere.",
    )
    against: Literal["vanilla", "plain", "references"] = Field(
        "vanilla",
        title="Against",
        description="Whose answers are the other side: the untouched student's, plain LoRA's of "
        "the same seed, or the test rows' own.",
    )
    annotators: PathOrHubId = execution(
        USUAL,
        title="Annotators",
        description="Prompt and parser in alpaca_eval's format: pairwise, a name of alpaca_eval's "
        "(with the extra judge), or the path of a folder. What it holds is in the key.",
    )
    at_once: Count = execution(4, title="At once", description="Questions asked side by side.")
    seconds: Seconds = execution(120.0, title="Time-out", description="Seconds, of one question.")
    attempts: Count = execution(
        5, title="Attempts", description="How often a question is asked before it is given up."
    )
    first_wait: Seconds = execution(
        1.0, title="First wait", description="Seconds before the second attempt; then doubled."
    )
    longest_wait: Seconds = execution(
        120.0,
        title="Longest wait",
        description="Seconds between two attempts at most, also where the judge asks for more.",
    )
    most_unread: Share = execution(
        0.1,
        title="Most unreadable",
        description="Greatest share of the judge's answers that may say nothing readable; such "
        "count as ties.",
    )
    price_in: Price | None = execution(
        None, title="Price of input", description="Of a million tokens, for the plan."
    )
    price_out: Price | None = execution(
        None, title="Price of output", description="Of a million tokens, for the plan."
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        fault = url_fault(url) if url else ""
        if fault and ("@" in url or "?" in url):
            raise PydanticCustomError(HIDDEN, fault)
        if fault:
            raise ValueError(fault)
        return url

    @field_validator("key_variable", mode="before")
    @classmethod
    def _is_name(cls, name: Any) -> Any:
        """Refuse what is no name, without a word of what was given: it may be the key itself."""
        letters = isinstance(name, str) and name.replace("_", "A")
        if name == "" or (letters and len(letters) <= 64 and _is_upper(letters)):
            return name
        raise PydanticCustomError(
            HIDDEN,
            "takes the name of an environment variable, in capital letters, such as "
            "OPENAI_API_KEY, and never the key itself",
        )

    @field_validator("at_once")
    @classmethod
    def _few_at_once(cls, count: int) -> int:
        if count > 256:
            msg = "at most 256 questions are asked at once"
            raise ValueError(msg)
        return count

    @property
    def lack(self) -> str:
        """Why nothing is judged; empty if something is."""
        return "" if self.url else "no judge was given (judge.url)"

    def annotator(self) -> Annotator:
        """Read how the judge is asked.

        Raises:
            ConfigError: as ``read_annotator``, or if nobody says which model judges.
        """
        found = read_annotator(self.annotators)
        if not self.judge_of(found):
            raise ConfigError(
                "judge.model is empty, and the annotators name no model: give the judge's name"
            )
        return found

    def judge_of(self, annotator: Annotator) -> str:
        """Return the judging model's name."""
        return self.model or annotator.model

    def patience(self) -> Patience:
        """Return how long the judge is waited for."""
        return Patience(self.seconds, self.attempts, self.first_wait, self.longest_wait)

    def key(self) -> str:
        """Read the API key from the environment; "" if none is to be sent.

        Raises:
            ConfigError: if the variable is not set, or holds what no key is.
        """
        if not self.key_variable:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise ConfigError(
                f"judge.key_variable: the environment variable {self.key_variable} is not set or "
                "is empty; set it to the judge's API key, or leave key_variable out"
            )
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(
                f"the environment variable {self.key_variable} (judge.key_variable) holds "
                "characters that no API key has; nothing of it is shown here"
            )
        return key


def _is_upper(letters: str) -> bool:
    return letters.isascii() and letters.isalnum() and letters.isupper() and letters[0].isalpha()
