"""How often a judge prefers a model's answers to others: the win rate, with each item kept."""

import json
import threading
from collections.abc import Mapping, Sequence
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.disk.digests import digest_bytes
from paraknow_core.evaluation.items import read_items, write_items
from paraknow_core.judging.values import FLIPPED, LENGTH, OTHER_LENGTH, UNREAD, WIN
from tasks.engine.estimates import (
    CHARACTERS_A_TOKEN,
    Estimate,
    Foreseen,
    longest_row,
    rows_of,
)
from tasks.engine.json_files import read_json, write_json
from tasks.engine.progress import logger
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceChangedError
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.engine.workers import check_going_on
from tasks.judging.config import JudgeConfig
from tasks.judging.kept import KeptAnswers

if TYPE_CHECKING:
    from paraknow_core.judging.pairs import AnswerPair, Judged


def _source(config: JudgeConfig, _inputs: Mapping[str, Ref], _run: RunConfig) -> Source:
    """Digest what the annotators hold: wherever they lie, only that is identity."""
    annotator = config.annotator()
    said = json.dumps([annotator.identity(), config.judge_of(annotator)])
    return Source(digests={"annotators": digest_bytes(said.encode())})


def _compute(job: Job[JudgeConfig]) -> Facts:
    """Have each pair of answers judged in both positions, and put the preference into the items.

    The output has all that the evaluation's has, so whatever reads that can read this.
    """
    from paraknow_core.judging.client import JudgeClient
    from paraknow_core.judging.pairs import measured_items
    from paraknow_core.judging.panel import Panel

    config, annotator = job.config, job.config.annotator()
    if dict(_source(config, {}, job.run).digests) != dict(job.digests):
        raise SourceChangedError(
            f"The annotators {config.annotators} changed meanwhile. Nothing was stored; run again."
        )
    items = read_items(job.inputs["answers"] / "items.parquet")
    stop = threading.Event()
    client = JudgeClient(config.url, config.key(), config.patience(), wait=stop.wait)
    panel = Panel(
        client,
        annotator,
        config.judge_of(annotator),
        KeptAnswers(job.run.open_store()),
        at_once=config.at_once,
        most_unread=config.most_unread,
        stop=stop,
        check=check_going_on,
    )
    try:
        judged = panel.judge(_pairs(job.inputs), job.progress)
    finally:
        client.close()
    told = _told(judged)
    if told["judge_unread"]:
        logger.warning(
            "%s: %d of the judge's answers could not be read and count as ties (%s)",
            job.label,
            told["judge_unread"],
            ", ".join([one.pair.id for one in judged if one.measured[UNREAD]][:5]),
        )
    metrics = {**read_json(job.inputs["answers"] / "metrics.json"), **told}
    write_items(job.out / "items.parquet", measured_items(items, judged))
    write_json(job.out / "metrics.json", metrics)
    with (job.out / "judged.jsonl").open("w", encoding="utf-8") as lines:
        for one in judged:
            row = {"id": one.pair.id, WIN: one.win, "first": one.first, "second": one.second}
            lines.write(json.dumps({**row, "said": one.said}, ensure_ascii=False) + "\n")
    return {**metrics, "questions_asked": client.asked}


def _pairs(folders: Mapping[str, Path]) -> "list[AnswerPair]":
    """Put the answers side by side, each with its row's own question."""
    from paraknow_core.data import read_split
    from paraknow_core.judging.pairs import pairs_of

    rows = read_split(folders["data"] / "test.parquet")
    questions = {row.id: row.own or row.prompt for row in rows}
    items = read_items(folders["answers"] / "items.parquet")
    reference = folders.get("reference")
    others = None if reference is None else read_items(reference / "items.parquet")
    return pairs_of(items, others, questions)


def _told(judged: "Sequence[Judged]") -> dict[str, Any]:
    """Pool the items: means of win rate and lengths, and counts of what was no decision."""
    each = [one.measured for one in judged]
    means = {name: fsum(m[name] for m in each) / len(each) for name in (WIN, LENGTH, OTHER_LENGTH)}
    counts = {name: int(fsum(m[name] for m in each)) for name in (UNREAD, FLIPPED)}
    ties = sum(one.win == 0.5 for one in judged)
    return {**means, **counts, "ties": ties, "same_answers": sum(one.same for one in judged)}


def _estimate(config: JudgeConfig, known: Foreseen) -> Estimate:
    """What asking everything takes; what is kept of earlier judging is not subtracted.

    Where answers are not there yet they are taken to be as long as the rows' own.
    """
    annotator = config.annotator()
    fixed = sum(len(text) for _, text in annotator.turns)
    lengths = _question_lengths(known, fixed)
    if lengths is None:
        return Estimate(disk_bytes=1_000_000)
    tokens_in = sum(lengths) // CHARACTERS_A_TOKEN
    tokens_out = len(lengths) * int(annotator.request.get("max_tokens", 0))
    prices = config.price_in, config.price_out
    price = None
    if None not in prices:
        price = (tokens_in * (prices[0] or 0) + tokens_out * (prices[1] or 0)) / 1e6
    return Estimate(
        disk_bytes=1_000_000 + sum(lengths) + 4_000 * len(lengths),
        tokens=tokens_in,
        requests=len(lengths),
        tokens_out=tokens_out,
        price=price,
    )


def _question_lengths(known: Foreseen, fixed: int) -> list[int] | None:
    """Characters of every question; None while not even the rows are known."""
    from paraknow_core.data import read_split

    if "data" not in known.folders:
        return None
    if {"answers", "reference"} <= known.folders.keys():
        pairs = [pair for pair in _pairs(known.folders) if pair.answer != pair.other]
        found = [fixed + len(p.instruction) + len(p.answer) + len(p.other) for p in pairs]
    elif not (file := known.folders["data"] / "test.parquet").is_file():
        count = rows_of(known, "test")  # the rows are not here yet
        if count is None:
            return None
        found = count * [fixed + 2 * CHARACTERS_A_TOKEN * longest_row(known, "test")]
    else:
        rows = read_split(file)
        found = [fixed + len(row.own or row.prompt) + 2 * len(row.answer) for row in rows]
    return [length for length in found for _position in range(2)]


def _ready(config: JudgeConfig) -> None:
    """Refuse what asking would meet at once, such as a key that is not set."""
    config.annotator()
    config.key()


win_rate = Step(
    name="win-rate",
    stage=Stage.EVALUATE,
    version=1,
    compute=_compute,
    reads={
        "answers": ("items.parquet", "metrics.json"),
        "reference": ("items.parquet",),
        "data": ("test.parquet",),
    },
    source=_source,
    estimate=_estimate,
    sized_by=("data",),
    ready=_ready,
)
