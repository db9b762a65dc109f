"""Work done ahead: the same results in the same order, and no more of it than is asked for."""

import threading
import time

import pytest

from rdm.ahead import ahead


@pytest.mark.parametrize("threads", [1, 3])
def test_order_is_that_of_the_items(threads):
    def work(number):
        time.sleep(0.002 * (number % 3))
        return number, threading.get_ident()

    results = list(ahead(work, range(20), threads))
    assert [number for number, _ in results] == list(range(20))
    assert len({thread for _, thread in results}) <= threads
    assert threading.get_ident() not in {thread for _, thread in results}


def test_only_a_few_are_begun():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = ahead(str, items(), 2)
    assert [next(results) for _ in range(3)] == ["0", "1", "2"]
    assert len(taken) == 4 + 3
    results.close()
    assert len(taken) == 4 + 3


def test_an_error_comes_where_its_result_would():
    results = ahead(lambda number: 1 / number, [1, 2, 0, 4])
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
