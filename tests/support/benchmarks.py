"""Small made benchmarks of the form of GSM8K, MMLU and Super-NI, in the tiny tokenizer's words."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SUBJECTS = ("anatomy", "virology")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def word_problem(n: int) -> dict[str, str]:
    return {"question": f"w{n % 40} w{(3 * n) % 40} {n % 10}", "answer": f"w1 #### {n % 10}"}


def choice(n: int, subject: str) -> dict[str, Any]:
    return {
        "question": f"w{n % 40} w{(7 * n + len(subject)) % 40}",
        "subject": subject,
        "choices": [f"w{(n + step) % 40}" for step in range(4)],
        "answer": n % 4,
    }


def instruction(n: int) -> dict[str, Any]:
    right = [f"w{n % 40} w{(n + 1) % 40}", f"w{(n + 2) % 40}"]
    return {"definition": "w5 w6", "inputs": f"w{n % 40}", "targets": right}


def write_data(folder: Path) -> Path:
    """Write train and test of each, as JSONL."""
    write_jsonl(folder / "gsm8k" / "train.jsonl", map(word_problem, range(100, 108)))
    write_jsonl(folder / "gsm8k" / "test.jsonl", map(word_problem, range(9)))
    for place, subject in enumerate(SUBJECTS):
        rows = [choice(n, subject) for n in range(11 + 4 * place)]
        write_jsonl(folder / "mmlu" / f"{subject}.dev.jsonl", rows[:4])
        write_jsonl(folder / "mmlu" / f"{subject}.test.jsonl", rows[4:])
    write_jsonl(folder / "super_ni" / "train.jsonl", map(instruction, range(30, 34)))
    write_jsonl(folder / "super_ni" / "test.jsonl", map(instruction, range(6)))
    return folder


def write_definitions(folder: Path, data: Path) -> Path:
    """Write definitions with two filters (``sums``) and with a group of two (``facts``)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sums.yaml").write_text(f"""\
task: sums
dataset_path: json
dataset_kwargs:
  data_files: {{train: {data}/gsm8k/train.jsonl, test: {data}/gsm8k/test.jsonl}}
output_type: generate_until
training_split: train
fewshot_split: train
test_split: test
doc_to_text: "w0 {{{{question}}}} w1"
doc_to_target: "{{{{answer.split('####')[-1].strip()}}}}"
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
generation_kwargs: {{until: ["w0"], do_sample: false, max_gen_toks: 5}}
filter_list:
  - name: strict-match
    filter:
      - {{function: regex, regex_pattern: "w1 (\\\\d)"}}
      - {{function: take_first}}
  - name: flexible-extract
    filter:
      - {{function: regex, group_select: -1, regex_pattern: "(\\\\d)"}}
      - {{function: take_first}}
metadata: {{version: 3.0}}
""")
    for subject in SUBJECTS:
        (folder / f"facts_{subject}.yaml").write_text(f"""\
task: facts_{subject}
task_alias: {subject}
dataset_path: json
dataset_kwargs:
  data_files: {{dev: {data}/mmlu/{subject}.dev.jsonl, test: {data}/mmlu/{subject}.test.jsonl}}
output_type: multiple_choice
test_split: test
fewshot_split: dev
fewshot_config: {{sampler: first_n}}
doc_to_text: "{{{{question.strip()}}}} {{{{choices | join(' ')}}}} w9"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
""")
    (folder / "facts.yaml").write_text(f"""\
group: facts
task: [{", ".join(f"facts_{subject}" for subject in SUBJECTS)}]
aggregate_metric_list:
  - {{metric: acc, weight_by_size: true}}
  - {{metric: acc_norm, weight_by_size: false}}
metadata: {{version: 2}}
""")
    return folder
