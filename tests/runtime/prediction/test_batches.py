from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.prediction.pipeline import Batch, Batches
from onward.sources import Block, Images, Item, Pixels

LAW = settings(max_examples=80, deadline=None)


def nothing() -> bytes:
    return b""


@st.composite
def sources(draw: st.DrawFn) -> list[Block]:
    blocks: list[Block] = []
    for number in range(draw(st.integers(0, 4))):
        count = draw(st.integers(0, 9))
        if draw(st.booleans()):
            blocks.append(Images([Item(f"{number}/{index}.png", nothing, "12 345") for index in range(count)]))
        else:
            blocks.append(Pixels(f"{number}.npy", np.full((count, 2, 2, 1), number, np.uint8), stamp="9 9"))
    return blocks


def names(blocks: list[Block] | tuple[Block, ...]) -> list[str]:
    return [
        name
        for block in blocks
        for name in (block.names if isinstance(block, Pixels) else [item.name for item in block.items])
    ]


def take_all(blocks: list[Block], sizes: list[int]) -> list[Batch]:
    batches, taken = Batches(iter(blocks)), []
    while batch := batches.take(sizes[len(taken) % len(sizes)]):
        taken.append(batch)
    return taken


@LAW
@given(sources(), st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_batches_hold_every_input_once_in_order_and_as_many_as_asked_for(blocks: list[Block], sizes: list[int]) -> None:
    batches = take_all(blocks, sizes)
    assert [name for batch in batches for name in names(batch.blocks)] == names(blocks)
    asked = [sizes[index % len(sizes)] for index in range(len(batches))]
    assert [len(batch) for batch in batches[:-1]] == asked[:-1]
    assert all(0 < len(batch) <= size for batch, size in zip(batches, asked, strict=True))


@LAW
@given(sources(), st.integers(1, 12), st.integers(1, 12))
def test_the_digest_after_some_inputs_does_not_depend_on_the_batches(blocks: list[Block], one: int, other: int) -> None:
    def digests(size: int) -> dict[int, str]:
        counts, total = {}, 0
        for batch in take_all(blocks, [size]):
            total += len(batch)
            counts[total] = batch.digest
        return counts

    first, second = digests(one), digests(other)
    common = first.keys() & second.keys()
    assert {count: first[count] for count in common} == {count: second[count] for count in common}


def test_the_digest_tells_a_changed_input() -> None:
    def digest(stamp: str, name: str = "a.png") -> str:
        batch = Batches(iter([Images([Item(name, nothing, stamp), Item("b.png", nothing)])])).take(2)
        assert batch is not None
        return batch.digest

    assert digest("1 1") == digest("1 1")
    assert len({digest("1 1"), digest("1 2"), digest("1 1", "c.png")}) == 3
