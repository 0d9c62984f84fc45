"""The report of one run: its table, its text and the sensitivity map; the UI shows them too."""

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metric import Metric
from paraknow_core.evaluation.metrics import LOSS, METRICS, REPORTED
from paraknow_core.methods import METHODS, VANILLA, arms_among, every_arm, transfer_among
from paraknow_core.settings import Settings, later
from tasks.engine.json_files import finite, read_json, write_json
from tasks.engine.progress import in_task_run
from tasks.engine.ref import Ref
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.harness.reported import benchmark_role, benchmarks_of, primary_items


class ReportConfig(Settings):
    """What the report needs to know in addition to its inputs."""

    diverged: dict[str, str] = later({})
    """Arm → by which rule its training diverged."""
    primary: str = later(LOSS)
    """Name of the metric that the verdict is about."""
    metrics: tuple[str, ...] = later(REPORTED)
    """Names of those that were measured."""
    notes: tuple[str, ...] = later(())
    """Sentences about the data that a reader has to know."""
    benchmarks: tuple[str, ...] = later(())
    """Titles of those that were measured."""


def _compute(job: Job[ReportConfig]) -> Facts:
    """Compare the arms item by item, and draw the teacher's sensitivity."""
    import pandas as pd

    from paraknow_core.evaluation.items import read_items
    from paraknow_core.report.judged import judged_sentence
    from paraknow_core.report.pictures import sensitivity_heatmap
    from paraknow_core.report.transfer_summary import arm_name, as_markdown, compare_arms

    found = {name: job.inputs[name] / "items.parquet" for name in arms_among(job.inputs)}
    arms = {name: read_items(path) for name, path in found.items()}
    primary, asked = _primary(job, list(arms))
    summary = compare_arms(
        arms, job.config.diverged, primary=primary, metrics=job.config.metrics, asked=asked
    )
    if "layers" in job.inputs:
        summary["layers"] = read_json(job.inputs["layers"] / "layers.json")
    if "factors" in job.inputs:
        summary["decomposition"] = _decomposition(job.inputs["factors"])
    if job.config.benchmarks:
        summary["benchmarks"] = _benchmarks(job, list(arms))
    text = as_markdown(summary)
    said = [judged_sentence(arm_name(name), [items]) for name, items in arms.items()]
    notes = [*job.config.notes, *filter(None, said)]
    if notes:
        summary["notes"] = notes
        text += "".join(f"\n{note}\n" for note in notes)
    write_json(job.out / "summary.json", finite(summary))
    (job.out / "summary.md").write_text(text, encoding="utf-8")
    metrics = finite(summary["metrics"])
    table = pd.DataFrame([{"arm": name, **m} for name, m in metrics.items()])
    table.to_parquet(job.out / "results.parquet", index=False)
    if {"scores", "layers"} <= job.inputs.keys():
        sensitivity_heatmap(
            read_json(job.inputs["scores"] / "layer_sums.json"),
            job.out / "sensitivity.png",
            chosen=summary["layers"],
            title="Teacher's sensitivity on the seed samples",
        )
    return {"verdict": summary["verdict"]}


def _primary(
    job: Job[ReportConfig], arms: Sequence[str]
) -> tuple[Metric, dict[str, Sequence[Item]]]:
    """What the verdict is about, and if that is a benchmark's metric, each arm's questions."""
    metric = METRICS.choose(job.config.primary)
    if not metric.source:
        return metric, {}
    number = job.config.benchmarks.index(metric.source)
    roles = {arm: benchmark_role(number, arm) for arm in arms}
    folders = {arm: job.inputs[role] for arm, role in roles.items() if role in job.inputs}
    return primary_items(folders, metric)


def _benchmarks(job: Job[ReportConfig], arms: Sequence[str]) -> list[dict[str, Any]]:
    """Put the benchmarks' scores of all arms side by side, as JSON values."""
    runs = {
        title: {
            arm: [job.inputs[role]]
            for arm in arms
            if (role := benchmark_role(number, arm)) in job.inputs
        }
        for number, title in enumerate(job.config.benchmarks)
    }
    transfer = transfer_among(arms)
    against = (METHODS[transfer].baseline, VANILLA) if transfer else ()
    return [row.to_json() for row in benchmarks_of(runs, method=transfer, against=against)]


def _decomposition(folder: Path) -> dict[str, object]:
    certificates = list(read_json(folder / "certificates.json").values())
    energies = [certificate["energy"] for certificate in certificates]
    return {
        "matrices": len(certificates),
        "energy_mean": math.fsum(energies) / len(energies),
        "energy_least": min(energies),
        "fell_back": sum(bool(certificate["fell_back"]) for certificate in certificates),
    }


def _show(_ref: Ref, folder: Path) -> None:
    """Put table and picture into the Prefect UI, after a hit as after a computation."""
    from prefect.artifacts import create_markdown_artifact

    if not in_task_run():
        return
    text = (folder / "summary.md").read_text(encoding="utf-8")
    create_markdown_artifact(
        text, key="transfer-summary", description="Transfer against the other arms"
    )
    if not (folder / "sensitivity.png").is_file():
        return  # not every transfer has a sensitivity
    picture = base64.b64encode((folder / "sensitivity.png").read_bytes()).decode()
    image = f"![Teacher's sensitivity, layers × roles](data:image/png;base64,{picture})"
    create_markdown_artifact(
        f"# Teacher's sensitivity\n\n{image}\n",
        key="sensitivity-heat-map",
        description="Sum of |θ · ∂L/∂θ| by layer and role",
    )


report = Step(
    name="report",
    stage=Stage.REPORT,
    version=1,
    compute=_compute,
    reads={
        "scores": ("layer_sums.json",),
        "layers": ("layers.json",),
        "factors": ("certificates.json",),
        **dict.fromkeys(every_arm(), ("items.parquet",)),
    },
    on_result=_show,
)
