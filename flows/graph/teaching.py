"""What a training takes from the teacher's outputs, if it learns from them at all."""

from flows.graph.pair import ModelPair
from flows.graph.runner import Handle
from tasks.checks.distillation import check_one_tokenizer
from tasks.finetune import TARGETS, FinetuneConfig
from tasks.teaching.teacher_logits import TeacherLogitsConfig, teacher_logits


def check_teaching(pair: ModelPair, how: FinetuneConfig) -> None:
    """Refuse a pair whose teacher's outputs cannot be learned from, before anything expensive.

    Raises:
        TokenizerError: if a distilled pair has two tokenizers.
    """
    if how.distillation is not None:
        both = {"teacher": pair.teacher, "student": pair.student}
        pair.do.check(check_one_tokenizer, both, before=teacher_logits)


def targets_for(pair: ModelPair, how: FinetuneConfig) -> dict[str, Handle]:
    """Run the teacher over the training rows, if the training learns from its outputs.

    Args:
        pair: as ``acquire_pair`` gives it; a pass that an earlier arm asked for is not run again.
        how: the training's settings.

    Returns:
        The inputs that the training has because of it; none if it learns from answers alone.
    """
    if how.distillation is None:
        return {}
    wanted = TeacherLogitsConfig(
        temperature=how.distillation.temperature,
        top_k=how.distillation.top_k,
        compute_dtype=how.distillation.teacher_dtype,
        cutoff=how.cutoff,
    )
    given = {"teacher": pair.teacher, "student": pair.student, "data": pair.data}
    return {TARGETS: pair.do(teacher_logits, wanted, label="teacher logits", **given)}
