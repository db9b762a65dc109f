"""Work that is done ahead of whoever asks for it, by threads: results come in order, whatever finishes first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int = 1) -> Iterator[Result]:
    """`map(work, items)`, two results per thread ahead: what is held does not grow with the number of items.

    An error comes up where its result would; what was begun is finished then, and nothing more is begun.
    """
    waiting = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(waiting, 2 * threads))
        try:
            while begun:
                result = begun.popleft().result()
                begun.extend(pool.submit(work, item) for item in islice(waiting, 1))
                yield result
        finally:
            for future in begun:
                future.cancel()
