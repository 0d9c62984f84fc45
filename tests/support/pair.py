"""A tiny teacher/student pair with data on disk, and the config of a run that takes seconds."""

import json
import shutil
from pathlib import Path
from typing import Any

from support.tiny import tiny_examples, tiny_model

TEACHER: dict[str, Any] = {"hidden": 48, "layers": 4, "heads": 4, "kv_heads": 2, "ffn": 96}
"""Sizes of the teacher."""


def write_rows(path: Path, count: int = 120, *, seed: int = 0) -> Path:
    rows = [{"prompt": p, "answer": a} for p, a in tiny_examples(count, seed=seed)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_pair(folder: Path) -> Path:
    """Write ``teacher``, two students and ``rows.jsonl`` into ``folder``."""
    tiny_model(folder / "teacher", **TEACHER, seed=1)
    tiny_model(folder / "student", hidden=32, layers=2, heads=4, kv_heads=2, ffn=64, seed=2)
    tiny_model(folder / "other", hidden=24, layers=2, heads=4, kv_heads=2, ffn=48, seed=3)
    write_rows(folder / "rows.jsonl")
    return folder


def write_base(folder: Path) -> Path:
    """Write ``base``, which ``teacher`` may have been tuned from: half its weights."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "teacher", folder / "base")
    weights = load_file(folder / "base" / "model.safetensors")
    less = {name: 0.5 * weight for name, weight in weights.items()}
    save_file(less, folder / "base" / "model.safetensors", metadata={"format": "pt"})
    return folder / "base"


def pair_settings(folder: Path, store: Path) -> dict[str, Any]:
    return {
        "name": "tiny",
        "teacher": {"model": str(folder / "teacher")},
        "student": {"model": str(folder / "student")},
        "data": {
            "rows": {"path": str(folder / "rows.jsonl")},
            "template": "none",
            "sizes": {"seeds": 4, "train": 32, "validation": 8, "test": 16},
        },
        "lora": {"rank": 4, "alpha": 4},
        "decompose": {"max_rank": 8},
        "finetune": {"batch_size": 8, "epochs": 1},
        "evaluate": {"max_new_tokens": 4},
        "run": {"store": str(store), "threads": 1, "device": "cpu"},
    }
