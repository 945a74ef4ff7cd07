"""Plan: how many images an inference takes, how many run at a time, and with how many threads each."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """How inference is spread over the machine.

    Args:
        batch_size: Images an inference.
        streams: Inferences at a time.
        threads: Of one inference.
    """

    batch_size: int
    streams: int
    threads: int

    def __str__(self) -> str:
        streams = f"{self.streams} inferences at a time" if self.streams > 1 else "one inference at a time"
        return f"batches of {self.batch_size}, {streams}, {self.threads} thread{'s' * (self.threads > 1)} each"

    def to_json(self) -> dict[str, int]:
        """As plain data."""
        return asdict(self)
