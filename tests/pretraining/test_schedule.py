"""How a budget is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nertune.config.pretrain import parse_pretrain_settings
from nertune.pretraining.schedule import Schedule


def schedule(tokens: int = 100_000, **values: Any) -> Schedule:
    settings = parse_pretrain_settings(
        {
            "files": [Path("a.txt")],
            "output": Path("run"),
            "from_scratch": "tiny",
            "tokens": tokens,
            "length": 128,
            "batch_tokens": 4096,
            "warmup": 0.1,
            "ramp": 0.0,
            "short_length": 0,
            **values,
        }
    )
    return Schedule(settings, tokens)


def steps(plan: Schedule) -> list[tuple[int, int, int]]:
    """Tokens done before, row length and rows of every step."""
    done, found = 0, []
    while done < plan.tokens:
        found.append((done, plan.row_length(done), plan.num_rows(done)))
        done += found[-1][1] * found[-1][2]
    return found


def test_every_step_is_alike() -> None:
    found = steps(schedule())
    assert {(length, rows) for _, length, rows in found} == {(128, 32)}
    assert len(found) == 25  # the first with which the budget is reached


def test_the_rate_rises_and_falls() -> None:
    plan = schedule(1000)
    assert plan.rate(0) == 0
    assert plan.rate(50) == pytest.approx(0.5)
    assert plan.rate(100) == pytest.approx(1)
    assert plan.rate(550) == pytest.approx(0.5)
    assert plan.rate(1000) == pytest.approx(0)
    assert plan.rate(2000) == pytest.approx(0)  # the last step may go beyond the budget
    rates = [plan.rate(done) for done in range(1001)]
    assert max(rates) == rates[100]
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_no_warm_up() -> None:
    plan = schedule(1000, warmup=0)
    assert plan.rate(0) == 1
    assert plan.rate(500) == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_short_rows_first(share: float) -> None:
    found = steps(schedule(short_length=32, short_share=share))
    for done, length, rows in found:
        assert length == (32 if done < share * 100_000 else 128)
        assert length * rows == 4096
    assert found[-1][1] == 128


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("short", [0, 32])
def test_long_rows_last(share: float, short: int) -> None:
    found = steps(schedule(short_length=short, short_share=0.3, long_length=512, long_share=share))
    for done, length, rows in found:
        expected = 32 if short and done < 30_000 else 512 if done >= (1 - share) * 100_000 else 128
        assert length == expected
        assert length * rows == 4096
    assert [found[0][1], found[-1][1]] == [short or 128, 512]
    long = sum(length * rows for _, length, rows in found if length == 512)
    assert abs(long - share * 100_000) <= 4096


def test_no_long_rows() -> None:
    for values in ({"long_length": 0}, {"long_length": 512, "long_share": 0.0}):
        assert {length for _, length, _ in steps(schedule(**values))} == {128}


def test_no_short_rows() -> None:
    assert {length for _, length, _ in steps(schedule(short_length=0, short_share=0.5))} == {128}


def test_the_batch_grows() -> None:
    found = steps(schedule(ramp=0.5))
    rows = [rows for _, _, rows in found]
    assert rows[0] == 8
    assert rows == sorted(rows)
    assert {r for done, _, r in found if done >= 50_000} == {32}
    middle = [r for done, _, r in found if 20_000 <= done <= 30_000]
    assert all(17 <= r <= 23 for r in middle)


def test_the_batch_grows_while_rows_are_short() -> None:
    for done, length, rows in steps(schedule(ramp=0.5, short_length=32)):
        share = 0.25 + 0.75 * min(1, done / 50_000)
        assert abs(length * rows - share * 4096) <= length / 2


def test_a_row_at_least() -> None:
    plan = schedule(batch_tokens=1, ramp=0.9)
    assert {rows for _, _, rows in steps(plan)} == {1}
