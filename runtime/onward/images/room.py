"""Room: how many pixels the threads of a process may hold decoded at once, however many threads there are.

Pillow limits each image; eight threads would hold eight of that size. Large images wait here for each other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from PIL import Image

__all__ = ["MAX_PIXELS", "ImageRoom", "claim_room", "one_image"]

#: Of all large images at once. One image may have nearly as many: Pillow's limit.
MAX_PIXELS = 90_000_000
#: Smaller images need no room: 16 of them take as much as one large one.
FREE_PIXELS = 5_000_000
BLOCK_BYTES = 64 << 20


class ImageRoom:
    """Counts the pixels of large images that are decoded and not yet resized.

    A thread holds one image at a time.

    Args:
        max_pixels: Of all together. One image that is larger is let in alone.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self.max_pixels = max_pixels
        self._clear()

    def _clear(self) -> None:
        self._has_changed = threading.Condition()
        self._num_taken = 0
        self._of_thread = threading.local()

    @contextmanager
    def one_image(self) -> Iterator[None]:
        """What is claimed inside is given back at the end."""
        self._of_thread.claimed = 0
        try:
            yield
        finally:
            if claimed := self._of_thread.claimed:
                with self._has_changed:
                    self._num_taken -= claimed
                    self._has_changed.notify_all()
            del self._of_thread.claimed

    def claim(self, num_pixels: int) -> None:
        """Wait until there is room for an image; outside of `one_image`, and for a small one, there always is."""
        if num_pixels <= FREE_PIXELS or getattr(self._of_thread, "claimed", None) != 0:
            return
        _return_memory()
        with self._has_changed:
            self._has_changed.wait_for(lambda: not self._num_taken or self._num_taken + num_pixels <= self.max_pixels)
            self._num_taken += num_pixels
        self._of_thread.claimed = num_pixels


def _return_memory() -> None:
    """Let Pillow take the memory of large images in blocks that glibc gives back to the system: above 32 MiB.

    Of smaller ones each thread keeps what its largest image took.

    Source: Pillow, "Block allocator"; mallopt(3), M_MMAP_THRESHOLD.
    """
    core: Any = getattr(Image, "core", None)
    with suppress(AttributeError):  # another Pillow
        if core.get_block_size() < BLOCK_BYTES:
            core.set_block_size(BLOCK_BYTES)


_ROOM = ImageRoom()
one_image, claim_room = _ROOM.one_image, _ROOM.claim
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ROOM._clear)  # a fork has none of the threads that hold images
