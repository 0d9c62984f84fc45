"""What a judge's answer says: the completion parsers of alpaca_eval, under their names.

Written anew, because alpaca_eval 0.6.6 cannot be imported beside this project's libraries
(docs/judging.md says why); its annotators name these parsers. Each takes a completion and returns
one preference: 1 for the first output, 2 for the second, 1.5 for a tie, or a number between.

Source: alpaca_eval 0.6.6, ``completion_parsers.py`` (Dubois et al. 2023, arXiv 2305.14387).
"""

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paraknow_core.errors import ConfigError
from paraknow_core.registry import Registry

_LONGEST = 1_000_000
"""Characters of a completion that are looked at: a judge may answer anything."""
_NOT_READ = (
    *(ValueError, KeyError, TypeError, IndexError, SyntaxError, StopIteration, AttributeError),
    *(OverflowError, RecursionError, MemoryError),
)


Parser = Callable[..., Any]
"""Reads a completion: a text, or for ``completions_all`` the whole choice of the answer.

Its options are named. It raises one of `_NOT_READ` if the completion is not what it reads.
"""


def regex_parser(completion: Any, *, outputs_to_match: Mapping[Any, str]) -> float:
    """Return the key of the expression that matches first, where exactly one answer is found."""
    text, found = str(completion), []
    while True:
        matches = [(m.start(), m.end(), key) for key, m in _searched(text, outputs_to_match)]
        if not matches:
            break
        _start, end, key = min(matches, key=lambda match: match[0])
        found.append(float(key))
        text = text[end:]
        if not end:  # an expression that matches nothing would do so for ever
            break
    if len(found) != 1:
        msg = f"{len(found)} answers in place of one"
        raise ValueError(msg)
    return found[0]


def _searched(text: str, expressions: Mapping[Any, str]) -> list[tuple[Any, re.Match[str]]]:
    found = [(key, re.search(expression, text)) for key, expression in expressions.items()]
    return [(key, match) for key, match in found if match]


def lmsys_parser(completion: Any) -> float:
    """Compare the two scores in the first line, such as ``7 9``."""
    first, second = map(float, str(completion).split("\n")[0].replace(",", " ").split())
    return 1.0 if first > second else 2.0 if first < second else 1.5


def ranking_parser(completion: Any, *, model_1_name: str = "model_1") -> int:
    """Read the rank of the first output's model in a list of ``{"model": …, "rank": …}``."""
    ranks = ast.literal_eval(completion) if isinstance(completion, str) else completion
    rank = next(entry["rank"] for entry in ranks if entry["model"] == model_1_name)
    if rank not in (1, 2):
        msg = f"the rank {rank!r} is neither 1 nor 2"
        raise ValueError(msg)
    return int(rank)


def json_parser(completion: Any, *, annotation_key: str | None) -> Any:
    """Read one value of a JSON object, which may stand between ```` ```json ```` fences."""
    text = str(completion)
    fenced = re.search(r"```json(.*?)```", text, re.DOTALL)
    loaded = json.loads(fenced[1] if fenced else text)
    if isinstance(loaded, list):
        (loaded,) = loaded
    return loaded if annotation_key is None else loaded[annotation_key]


def eval_parser(completion: Any) -> Any:
    """Read a Python literal, such as ``2`` or ``[2]``."""
    found = ast.literal_eval(str(completion))
    if isinstance(found, list):
        (found,) = found
    return found


def replace_parser(
    completion: Any, *, replacer: Mapping[Any, Any], default_replacer: Any = "auto"
) -> Any:
    """Put what the table says in place of the completion."""
    return replacer.get(completion, completion if default_replacer == "auto" else default_replacer)


def logprob_parser(
    completion: Any,
    *,
    numerator_token: str,
    denominator_tokens: Sequence[str],
    is_binarize: bool = True,
    log_prob_index: int | str = "batch",
) -> float:
    """Return 2 − P(first output), of the log-probabilities of the judge's answer token.

    Args:
        completion: the choice, with ``logprobs``.
        numerator_token: says that the first output is better.
        denominator_tokens: all tokens that are answers.
        is_binarize: return 1 or 2 by which is likelier.
        log_prob_index: place of the answer's token; ``batch`` is the only one.
    """
    tokens = completion["logprobs"]["content"]
    if log_prob_index == "batch" and len(tokens) != 1:
        msg = f"{len(tokens)} tokens in place of one"
        raise ValueError(msg)
    token = tokens[0 if log_prob_index == "batch" else int(log_prob_index)]
    wanted = {numerator_token, *denominator_tokens}
    known = {t["token"]: float(t["logprob"]) for t in token["top_logprobs"] if t["token"] in wanted}
    if not known:
        msg = f"none of {', '.join(sorted(wanted))} is among the likeliest tokens"
        raise ValueError(msg)
    first = known.get(numerator_token, -math.inf)
    if is_binarize:
        rest = [n for n in denominator_tokens if n != numerator_token]
        others = [known.get(name, -math.inf) for name in rest]
        return 1.0 if all(first > other for other in others) else 2.0
    whole = math.fsum(math.exp(known.get(name, -math.inf)) for name in denominator_tokens)
    return 2.0 - math.exp(first) / whole


def pipeline_meta_parser(
    completion: Any, *, parsers_to_kwargs: Mapping[str, Mapping[str, Any]], is_squeeze: bool = True
) -> Any:
    """Apply several parsers, each to what the one before found."""
    del is_squeeze  # each of ours returns one value
    for name, options in parsers_to_kwargs.items():
        completion = PARSERS.choose(name)(completion, **options)
    return completion


PARSERS: Registry[Parser] = Registry(
    "completion parser",
    {
        "regex_parser": regex_parser,
        "lmsys_parser": lmsys_parser,
        "ranking_parser": ranking_parser,
        "json_parser": json_parser,
        "eval_parser": eval_parser,
        "replace_parser": replace_parser,
        "logprob_parser": logprob_parser,
        "pipeline_meta_parser": pipeline_meta_parser,
    },
    error=ConfigError,
)


def preference_in(completion: Any, parser: str, options: Mapping[str, Any]) -> float | None:
    """Read a preference between two outputs.

    Args:
        completion: as the parser takes it.
        parser: a key of ``PARSERS``.
        options: of the parser.

    Returns:
        From 1 (the first output is better) to 2 (the second is); None if the completion says
        nothing that the parser understands.
    """
    if not completion or len(str(completion)) > _LONGEST:
        return None
    try:
        found = float(PARSERS.choose(parser)(completion, **options))
    except _NOT_READ:
        return None
    if found == 0:
        return 1.5  # how alpaca_eval writes a tie as well
    return found if 1 <= found <= 2 else None
