"""The report of one run: its table, its words, the sensitivity map; the UI shows them too."""

import base64
import math
from pathlib import Path

from paraknow_core.methods import METHODS
from tasks.engine.identity import StepConfig
from tasks.engine.json_files import read_json, write_json
from tasks.engine.progress import in_task_run
from tasks.engine.ref import Ref
from tasks.engine.step import Facts, Job, Step

ARMS = ("vanilla", *METHODS)


class ReportConfig(StepConfig):
    """Nothing to set."""


def _compute(job: Job[ReportConfig]) -> Facts:
    """Compare the arms item by item, and draw the teacher's sensitivity."""
    import pandas as pd

    from paraknow_core.evaluation.items import read_items
    from paraknow_core.report.pictures import sensitivity_heatmap
    from paraknow_core.report.transfer_summary import as_markdown, compare_arms

    found = {name: job.inputs[name] / "items.parquet" for name in ARMS if name in job.inputs}
    arms = {name: read_items(path) for name, path in found.items()}
    summary = compare_arms(arms)
    summary["layers"] = read_json(job.inputs["layers"] / "layers.json")
    summary["decomposition"] = _decomposition(job.inputs["factors"])
    write_json(job.out / "summary.json", _finite(summary))
    (job.out / "summary.md").write_text(as_markdown(summary), encoding="utf-8")
    table = pd.DataFrame([{"arm": name, **m} for name, m in summary["metrics"].items()])
    table.to_parquet(job.out / "results.parquet", index=False)
    sensitivity_heatmap(
        read_json(job.inputs["scores"] / "layer_sums.json"),
        job.out / "sensitivity.png",
        chosen=summary["layers"],
        title="Teacher's sensitivity on the seed samples",
    )
    return {"verdict": summary["verdict"]}


def _decomposition(folder: Path) -> dict[str, object]:
    certificates = list(read_json(folder / "certificates.json").values())
    energies = [certificate["energy"] for certificate in certificates]
    return {
        "matrices": len(certificates),
        "energy_mean": math.fsum(energies) / len(energies),
        "energy_least": min(energies),
        "fell_back": sum(bool(certificate["fell_back"]) for certificate in certificates),
    }


def _finite(value: object) -> object:
    """JSON and Prefect's tables know neither infinity nor NaN; such a number becomes null."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(_ref: Ref, folder: Path) -> None:
    """Put table and picture into the Prefect UI, after a hit as after a computation."""
    from prefect.artifacts import create_markdown_artifact

    if not in_task_run():
        return
    text = (folder / "summary.md").read_text(encoding="utf-8")
    picture = base64.b64encode((folder / "sensitivity.png").read_bytes()).decode()
    image = f"![Teacher's sensitivity, layers × roles](data:image/png;base64,{picture})"
    create_markdown_artifact(
        text, key="transfer-summary", description="Transfer against the other arms"
    )
    create_markdown_artifact(
        f"# Teacher's sensitivity\n\n{image}\n",
        key="sensitivity-heat-map",
        description="Sum of |θ · ∂L/∂θ| by layer and role",
    )


report = Step(
    name="report",
    version=1,
    compute=_compute,
    reads={
        "scores": ("layer_sums.json",),
        "layers": ("layers.json",),
        "factors": ("certificates.json",),
        **dict.fromkeys(ARMS, ("items.parquet",)),
    },
    on_result=_show,
)
