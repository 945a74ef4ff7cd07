"""Tasks in PyTorch: how a network is trained for a task, and which tensors its model gives.

The other half is `onward.tasks`: what the outputs mean once they are numbers. Both halves go by the task's name. A task
is one file and one entry of `NETWORK_TASKS`.
"""

from __future__ import annotations

from onward.errors import SignatureError
from onward.signature import CLASSIFICATION, AnySignature
from onward_training.tasks.classification import ClassificationNetworks
from onward_training.tasks.network_task import Loss, NetworkTask

__all__ = ["NETWORK_TASKS", "Loss", "NetworkTask", "network_task_of"]

#: Name of a task, as a signature has it -> what makes it from the signature.
NETWORK_TASKS: dict[str, type[NetworkTask]] = {CLASSIFICATION: ClassificationNetworks}


def network_task_of(signature: AnySignature) -> NetworkTask:
    """The task of a network.

    Raises:
        SignatureError: The task is unknown here.
    """
    kind = NETWORK_TASKS.get(signature.task)
    if kind is None:
        raise SignatureError(
            f"the task is {signature.task!r}; Onward trains and exports networks for {', '.join(NETWORK_TASKS)}."
        )
    return kind(signature)
