"""Tasks: what the outputs of a model mean.

A signature says which tensors a model gives and names its task. Everything that depends on their meaning is here: the
columns of `onward predict`, what `onward.load(...)(images)` returns, when a row is right, when two outputs agree, and a
noise floor that follows from another output. A task is one file and one entry of `TASKS`.
"""

from __future__ import annotations

from onward.errors import SignatureError
from onward.signature import CLASSIFICATION, AnySignature
from onward.tasks.classification import Classification
from onward.tasks.task import Task

__all__ = ["TASKS", "Task", "task_of"]

#: Name of a task, as a signature has it -> what makes the task from the signature.
TASKS: dict[str, type[Task]] = {CLASSIFICATION: Classification}


def task_of(signature: AnySignature) -> Task:
    """The task of a model.

    Raises:
        SignatureError: The task is unknown here, or the outputs are not those of the task.
    """
    kind = TASKS.get(signature.task)
    if kind is None:
        raise SignatureError(
            f"the model's task is {signature.task!r}, and this Onward has {', '.join(TASKS)}. Update Onward."
        )
    return kind(signature)
