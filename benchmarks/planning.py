"""What a plan costs: ``compare --plan`` of 5 pairs, 4 tasks, 10 methods and 5 seeds, none run yet.

python -m benchmarks.planning        # a minute; 60 MB, removed after
"""

import sys
import tempfile
import time
from pathlib import Path

from flows.config.compare import CompareConfig
from flows.planning.compare import make_compare_plan

GOAL = 10.0
_TEACHER = {"hidden_size": 96, "layers": 4, "ffn": 256, "heads": 4, "kv_heads": 4}
_STUDENT = {"hidden_size": 48, "layers": 3, "ffn": 128, "heads": 2, "kv_heads": 2}
_TRAINED = {"task_steps": 1500, "task_lr": 1.5e-3, "task_share": 0.8}
_SIZES = {"seeds": 32, "train": 1000, "validation": 200, "test": 500}


def comparison(store: Path) -> CompareConfig:
    """Return a comparison of 1,000 results on the test split, each at a tuned learning rate."""
    return CompareConfig.model_validate(
        {
            "name": "many",
            "pairs": [
                {
                    "name": f"pair-{n}",
                    "teacher": {"pretrain": _TEACHER | _TRAINED | {"seed": 2 * n}},
                    "student": {"pretrain": _STUDENT | _TRAINED | {"seed": 2 * n + 1}},
                }
                for n in range(5)
            ],
            "tasks": [
                {"name": f"task-{n}", "problems": {"sizes": _SIZES, "seed": n}} for n in range(4)
            ],
            "methods": ["plain", "transfer", "pissa", "milora", "olora", "eva"],
            "controls": [
                "same-spectrum",
                "shuffled-vocabulary",
                "random-layers",
                "shuffled-teacher",
            ],
            "settings": {
                "decompose": {"max_rank": 16},
                "lora": {"rank": 8, "alpha": 8},
                "finetune": {"epochs": 3, "batch_size": 64},
                "evaluate": {"max_new_tokens": 4, "batch_size": 64},
            },
            "tuning": {"learning_rates": [4e-3, 6e-3, 1e-2, 1.6e-2], "seeds": [1000]},
            "seeds": list(range(5)),
            "allow_overlap": True,
            "run": {"threads": 1, "store": str(store)},
        }
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        config = comparison(Path(folder) / "store")
        wall, cpu = time.perf_counter(), time.process_time()
        plan = make_compare_plan(config)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{plan.asked:,} steps asked for, {len(plan.steps):,} of them distinct:")
    print(f"  planned in {wall:.1f} s, on the CPU {cpu:.1f} s (goal: {GOAL:g} s)")
    return 0 if wall <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
