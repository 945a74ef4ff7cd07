"""Left alone: how many files of folders and archives are not read, by suffix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["LeftAlone", "add_up", "describe_left_alone"]

#: Limits of what is counted by itself: names are anybody's.
MAX_SUFFIXES, MAX_SUFFIX_LENGTH = 50, 16
NO_SUFFIX, OTHER = "no suffix", "other"


class LeftAlone:
    """Counts files by suffix, in lower case; from the fifty-first suffix on as `other`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, suffix: str) -> None:
        """Count one file.

        Args:
            suffix: With its dot; empty where there is none.
        """
        key = suffix.lower() if suffix.strip(".") else NO_SUFFIX
        is_plain = len(key) <= MAX_SUFFIX_LENGTH and (key == NO_SUFFIX or key.replace(".", "").isalnum())
        is_countable = key in self.counts or len(self.counts) < MAX_SUFFIXES
        self.counts[key if is_plain and is_countable else OTHER] += 1

    def add_file(self, name: str) -> None:
        """Count one file by its name."""
        self.add(os.path.splitext(name)[1])


def add_up(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of several counts."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def describe_left_alone(counts: Mapping[str, int]) -> str:
    """`12 .txt, 3 .heic`, the most frequent first; with what to do about photographs that cannot be read here."""
    from onward.images.heif import HEIF_SUFFIXES, is_installed

    most_frequent_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{count:,} {suffix}" for suffix, count in most_frequent_first)
    is_unread = not HEIF_SUFFIXES.isdisjoint(counts) and not is_installed()
    return listed + (" (`pip install 'onward[heif]'` reads .heic)" if is_unread else "")
