"""Large images wait for each other; small ones do not."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from onward.images.room import FREE_PIXELS, ImageRoom


def most_at_once(room: ImageRoom, sizes: list[int]) -> int:
    """The most pixels that threads, one for each size, hold together."""
    held, most, lock = [0], [0], threading.Lock()

    def hold(size: int) -> None:
        with room.one_image():
            room.claim(size)
            with lock:
                held[0] += size
                most[0] = max(most[0], held[0])
            threading.Event().wait(0.05)
            with lock:
                held[0] -= size

    with ThreadPoolExecutor(len(sizes)) as pool:
        list(pool.map(hold, sizes))
    return most[0]


def test_large_images_wait_for_each_other() -> None:
    size = 2 * FREE_PIXELS
    assert most_at_once(ImageRoom(2 * size), [size] * 8) == 2 * size


def test_an_image_larger_than_the_room_is_alone() -> None:
    size = 3 * FREE_PIXELS
    assert most_at_once(ImageRoom(size - 1), [size] * 4) == size


def test_small_images_do_not_wait_and_what_is_claimed_outside_is_not_held() -> None:
    room = ImageRoom(1)
    assert most_at_once(room, [FREE_PIXELS] * 4) > FREE_PIXELS
    for _ in range(3):
        room.claim(10 * FREE_PIXELS)


def test_an_error_gives_the_room_back() -> None:
    room = ImageRoom(2 * FREE_PIXELS)
    for _ in range(3):
        try:
            with room.one_image():
                room.claim(2 * FREE_PIXELS)
                raise ValueError
        except ValueError:
            pass
    assert most_at_once(room, [2 * FREE_PIXELS] * 2) == 2 * FREE_PIXELS
