"""Every step by its name: what a record's ``step`` refers to."""

from collections.abc import Mapping
from typing import Any

from tasks.acquire_data import acquire_data
from tasks.acquire_model import acquire_model
from tasks.align import align
from tasks.comparison import comparison
from tasks.contamination import contamination
from tasks.decompose import decompose
from tasks.diagnose import diagnose, likeness
from tasks.engine.step import Step
from tasks.evaluate import evaluate
from tasks.extract import extract
from tasks.finetune import finetune
from tasks.harness.benchmark import benchmark
from tasks.harness.benchmark_tasks import benchmark_tasks
from tasks.judging.win_rate import win_rate
from tasks.pretrain import pretrain
from tasks.random_model import random_model
from tasks.report import report
from tasks.sensitivity import sensitivity
from tasks.starts.compose import compose
from tasks.starts.control import control
from tasks.starts.lora import lora, plain_lora
from tasks.starts.novel_tokens import novel_tokens
from tasks.starts.signal_start import signal_start
from tasks.starts.student_start import student_start
from tasks.starts.transport import transport
from tasks.teachers.dense_experts import dense_experts
from tasks.teachers.dequantise import dequantise
from tasks.teaching.arrival import arrival
from tasks.teaching.teacher_logits import teacher_logits
from tasks.word_problems import word_problems

STEPS: Mapping[str, Step[Any]] = {
    step.name: step
    for step in (
        acquire_data,
        acquire_model,
        align,
        arrival,
        benchmark,
        benchmark_tasks,
        comparison,
        compose,
        contamination,
        control,
        decompose,
        dense_experts,
        dequantise,
        diagnose,
        evaluate,
        extract,
        finetune,
        likeness,
        lora,
        novel_tokens,
        plain_lora,
        pretrain,
        random_model,
        report,
        sensitivity,
        signal_start,
        student_start,
        teacher_logits,
        transport,
        win_rate,
        word_problems,
    )
}
