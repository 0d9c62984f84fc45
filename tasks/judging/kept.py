"""A judge's answers, kept in the store: each under a key of the whole question.

A question holds the judge's name, the prompt with instruction and both answers in their order, and
every option of the request. So whichever run asks it again, and for whatever comparison, meets the
answer; where the judge is and with which key it is asked decides nothing. Only answers that can be
read are kept.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from artifacts.canonical import canonical_bytes
from artifacts.disk.digests import digest_bytes
from artifacts.keys import KeyPayload
from artifacts.store import Store
from paraknow_core.errors import DataError
from paraknow_core.strict_data import read_json

JUDGEMENT: Final = "judgement"
"""What such a result is called among the steps; no step computes it by itself."""
_ANSWER: Final = "answer.json"


class KeptAnswers:
    """What judges answered, in one store."""

    def __init__(self, store: Store) -> None:
        """Look into a store."""
        self._store = store

    def find(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the choice that was answered to this very question; None if none is kept."""
        record = self._store.lookup(payload_of_question(body).key())
        if record is None:
            return None
        path: Path = self._store.file_path(record, _ANSWER)
        found = read_json(path, refuse=DataError)
        choice = found.get("choice") if isinstance(found, dict) else None
        return choice if isinstance(choice, dict) else None

    def keep(self, body: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
        """Keep an answer with its question; of two to one question the first counts."""
        text = json.dumps({"question": body, "choice": choice}, indent=1, sort_keys=True)
        self._store.publish(
            payload_of_question(body),
            {_ANSWER: text.encode()},
            provenance={"finished": datetime.now(UTC).isoformat(timespec="seconds")},
        )


def payload_of_question(body: Mapping[str, Any]) -> KeyPayload:
    """Return what identifies a question; see the module's words."""
    return KeyPayload(
        step=JUDGEMENT,
        version=1,
        config={"model": str(body["model"])},
        inputs={"question": digest_bytes(canonical_bytes(dict(body)))},
    )
