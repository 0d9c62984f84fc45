"""Windows and SVDs follow ``run.device``: their keys, their estimates, and where they compute."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.direct import run_direct
from support.pair import pair_settings, write_pair

from artifacts.names import StepKey
from artifacts.store import Store
from flows.config.transfer import TransferConfig
from flows.graph.stored import ElsewhereRun
from paraknow_core.inspection.decomposition import decomposition_bytes, decomposition_work
from paraknow_core.models import load
from paraknow_core.models.describe import describe
from paraknow_core.svd import truncated
from tasks.decompose import DecomposeConfig, decompose
from tasks.engine.computation import Computation
from tasks.engine.devices.memory import DeviceMemoryError, memory_told
from tasks.engine.estimates import Foreseen
from tasks.engine.json_files import write_json
from tasks.engine.ref import Ref, folder_of
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source
from tasks.engine.stage import Stage
from tasks.engine.step import Step
from tasks.extract import ExtractConfig, extract
from tasks.reproduce import reproduce

CONFIGS: dict[Step[Any], Any] = {extract: ExtractConfig(), decompose: DecomposeConfig()}
INPUTS = {
    extract: {
        "scores": "sensitivity",
        "teacher": "teacher",
        "student": "student",
        "layers": "align",
    },
    decompose: {"teacher": "teacher", "windows": "extract", "student": "student"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def on_cpu(folder: Path) -> dict[str, Ref]:
    return run_direct(pair_settings(folder, folder / "store"), Stage.DECOMPOSE)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Stands for a GPU: what is sent there is noted, and stays where it is."""
    sent: list[torch.Size] = []
    true_to = torch.Tensor.to

    def to(tensor: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        if given == ("cuda",):
            sent.append(tensor.shape)
            return tensor
        return true_to(tensor, *given, **named)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(load, "pick_device", lambda name: "cuda" if name == "cuda" else "cpu")
    return sent


def computation(
    step: Step[Any], folder: Path, refs: dict[str, Ref], device: str
) -> Computation[Any]:
    config = TransferConfig.model_validate(pair_settings(folder, folder / "store"))
    run = RunConfig.model_validate({**dict(config.run), "device": device})
    inputs = {role: refs[label] for role, label in INPUTS[step].items()}
    own = {"extract": config.extract, "decompose": config.decompose}
    return Computation(step, step.name, own[step.name], inputs, run, Source())


def computed(need: Computation[Any], work: Path) -> dict[str, bytes]:
    store = need.run.open_store()
    folders = {role: folder_of(store, ref) for role, ref in need.inputs.items()}
    job = need.job(folders, work)
    need.step.compute(job)
    return {path.name: path.read_bytes() for path in job.out.iterdir()}


@pytest.mark.parametrize("step", CONFIGS, ids=lambda step: step.name)
def test_a_key_says_the_device_of_a_gpu_and_stays_what_it_was_on_a_cpu(step: Step[Any]) -> None:
    config = CONFIGS[step]
    before = {
        "extract": {},
        "decompose": {"accumulate": "float64", "device": "cpu", "svd": "auto"},
    }
    assert step.numerics(config, RunConfig(device="cpu")) == before[step.name]
    there = step.numerics(config, ElsewhereRun(device="cuda"))
    assert there == {**before[step.name], "accumulate": "float64", "device": "cuda"}


@pytest.mark.parametrize("step", CONFIGS, ids=lambda step: step.name)
def test_every_matrix_is_sent_to_the_device(
    step: Step[Any], folder: Path, on_cpu: dict[str, Ref], gpu: list[torch.Size], tmp_path: Path
) -> None:
    found = computed(computation(step, folder, on_cpu, "cuda"), tmp_path / "work")
    store = Store.open(folder / "store")
    whole = {path.name: path.read_bytes() for path in folder_of(store, on_cpu[step.name]).iterdir()}
    assert found == whole  # as the stand-in computes on the CPU
    cut = describe(folder / "student").modules(ExtractConfig().roles)
    assert len(gpu) >= len(cut)
    assert all(len(shape) == 2 for shape in gpu)


def test_on_a_cpu_nothing_is_sent(
    folder: Path, on_cpu: dict[str, Ref], gpu: list[torch.Size], tmp_path: Path
) -> None:
    for step in CONFIGS:
        need = computation(step, folder, on_cpu, "cpu")
        assert need.payload.key() == on_cpu[step.name].key
        computed(need, tmp_path / step.name)
    assert gpu == []


def test_what_a_gpu_run_computed_on_the_cpu_is_reproduced_there(
    folder: Path, on_cpu: dict[str, Ref], tmp_path: Path
) -> None:
    """As both steps did before: the record of such a run says cuda, and its key no device."""
    store = Store.open(folder / "store")
    record = store.lookup(StepKey(on_cpu["extract"].key))
    assert record is not None
    told = replace(record, provenance={**record.provenance, "device": "cuda"})
    assert reproduce(store, told, work=tmp_path).equal


def test_a_gpu_without_room_is_told_by_module_and_the_finished_ones_are_kept(
    folder: Path,
    on_cpu: dict[str, Ref],
    gpu: list[torch.Size],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true_svd, done = truncated.truncated_svd, 2

    def full(*given: Any, **named: Any) -> Any:
        if len(gpu) > done:
            raise torch.OutOfMemoryError
        return true_svd(*given, **named)

    monkeypatch.setattr(truncated, "truncated_svd", full)
    need = computation(decompose, folder, on_cpu, "cuda")
    with pytest.raises(
        DeviceMemoryError, match=r"decomposing \S+, which takes about .*device: cpu"
    ):
        computed(need, tmp_path / "work")
    monkeypatch.setattr(truncated, "truncated_svd", true_svd)
    before = len(gpu)
    computed(need, tmp_path / "work")
    modules = len(describe(folder / "student").modules(ExtractConfig().roles))
    assert len(gpu) - before == modules - done


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match=r"^other$"), memory_told("anything", need=1):
        raise RuntimeError("other")


@pytest.mark.parametrize("step", CONFIGS, ids=lambda step: step.name)
def test_an_estimate_is_of_the_devices_memory(
    step: Step[Any], folder: Path, tmp_path: Path
) -> None:
    folders = {}
    for who in ("teacher", "student"):
        folders[who] = tmp_path / who
        folders[who].mkdir()
        write_json(folders[who] / "architecture.json", describe(folder / who).to_json())
    assert step.estimate is not None
    cpu, cuda = (
        step.estimate(CONFIGS[step], Foreseen(folders, device=lambda name=name: name))
        for name in ("cpu", "cuda")
    )
    assert cpu.disk_bytes == cuda.disk_bytes
    assert cpu.memory_bytes != cuda.memory_bytes


def test_one_matrix_at_a_time_is_on_the_device() -> None:
    small, large = (100, 50), (8192, 4096)
    assert decomposition_bytes([small, large], device="cuda") == decomposition_bytes(
        [large], device="cuda"
    )
    matrix, gram = 8 * 8192 * 4096, 8 * 4096**2
    assert decomposition_bytes([large]) == matrix + gram
    assert decomposition_bytes([large], device="cuda") == 2 * matrix + 4 * gram


def test_the_work_is_that_of_the_devices_driver() -> None:
    shape, rank = (8192, 4096), 32
    on_gpu = decomposition_work([shape], rank, device="cuda").flops64
    gram = 2 * 8192 * 4096**2
    assert gram < on_gpu < 2 * gram
    assert decomposition_work([shape], rank).flops64 < on_gpu  # krylov, which forms no such matrix
    small = [(300, 200)]
    assert decomposition_work(small, rank, device="cuda") == decomposition_work(small, rank)


@pytest.mark.gpu
def test_a_gpu_makes_the_same_cuts_and_products(
    folder: Path, on_cpu: dict[str, Ref], tmp_path: Path
) -> None:
    import json

    from safetensors.torch import load

    cuts = {}
    for device in ("cpu", "cuda"):
        found = computed(computation(extract, folder, on_cpu, device), tmp_path / device)
        cuts[device] = [
            {k: v for k, v in cut.items() if k not in ("score", "total")}
            for cut in json.loads(found["windows.json"])
        ]
    assert cuts["cuda"] == cuts["cpu"]
    factors = {
        device: load(
            computed(computation(decompose, folder, on_cpu, device), tmp_path / f"svd-{device}")[
                "factors.safetensors"
            ]
        )
        for device in ("cpu", "cuda")
    }
    for name, values in factors["cpu"].items():
        module, _, part = name.rpartition(".")
        if part != "S":
            continue
        products = [
            found[f"{module}.U"] * found[name] @ found[f"{module}.Vh"] for found in factors.values()
        ]
        assert torch.allclose(values, factors["cuda"][name], rtol=1e-5)
        assert torch.allclose(*products, atol=1e-5)
