"""The time that is left: silent until it is honest, right once a small part is done."""

from __future__ import annotations

import pytest

from xpsr_cli.progress import Eta, in_words

SECONDS = {"file": 0.4, "encode": 0.3, "sample": 2.0, "decode": 1.2}  # per unit; not the costs that are assumed


@pytest.fixture
def clock():
    """A clock that stands still unless it is told otherwise: ``clock.now += 1``."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    return Clock()


def work(windows=20, steps=10):
    return {"file": 1.0, "encode": windows, "sample": windows * steps, "decode": windows}


def do(eta, clock, units, seconds=SECONDS):
    """Does the units one by one; yields the true seconds that are left and what is said of them."""
    left = sum(seconds[stage] * n for stage, n in units.items())
    eta.go()
    for stage, n in units.items():
        for _ in range(int(n)):
            clock.now += seconds[stage]
            left -= seconds[stage]
            eta.advance(stage, 1)
            yield left, eta.seconds_left


@pytest.mark.parametrize("photos", [1, 5, 50])
def test_after_a_twentieth_of_steady_work_the_error_is_below_a_tenth(clock, photos):
    eta, each = Eta(clock=clock), sum(SECONDS[stage] * n for stage, n in work().items())
    for _ in range(photos):
        eta.add(work())
    told = 0
    for others in reversed(range(photos)):
        for left, seconds in do(eta, clock, work()):
            left += others * each
            if left < 0.95 * photos * each:
                told += seconds is not None
                # what decoding costs is assumed until the first photo comes to it
                assert abs(seconds - left) <= 0.1 * max(left, each)
    assert told > 0.85 * photos * sum(work().values())
    assert eta.seconds_left == pytest.approx(0)
    assert eta.share == pytest.approx(1)


def test_steady_work_is_known_within_a_tenth_of_what_is_left(clock):
    eta, units = Eta(clock=clock), {"sample": 1000.0}
    eta.add(units)
    for done, (left, seconds) in enumerate(do(eta, clock, units), start=1):
        if done >= 50:
            assert seconds == pytest.approx(left, rel=0.1, abs=1e-6)


def test_nothing_is_said_before_something_is_known(clock):
    eta, units = Eta(clock=clock), {"encode": 10.0, "sample": 1000.0}
    eta.add(units)
    assert eta.seconds_left is None
    said = [seconds for _, seconds in do(eta, clock, units, {"encode": 5.0, "sample": 0.1})]
    assert said[:10] == [None] * 10  # encoding says nothing of sampling
    first = next(n for n, seconds in enumerate(said) if seconds is not None) - 10
    assert first >= 19  # two seconds
    slow = Eta(clock=clock)
    slow.add({"sample": 1e6})
    said = [seconds for _, seconds in do(slow, clock, {"sample": 5}, {"sample": 10})]
    assert [seconds is None for seconds in said] == [True, True, False, False, False]  # half a minute is enough


def test_what_an_earlier_run_did_takes_no_time_and_says_nothing(clock):
    eta = Eta(clock=clock)
    eta.add({"sample": 1000})
    eta.go()
    eta.drop({"sample": 900})
    for left, seconds in do(eta, clock, {"sample": 100}):
        if left <= 190:
            assert seconds == pytest.approx(left)


def test_time_between_photos_belongs_to_no_stage(clock):
    eta = Eta(clock=clock)
    eta.add({"sample": 200})
    list(do(eta, clock, {"sample": 100}))
    clock.now += 3600
    eta.go()
    assert eta.seconds_left == pytest.approx(200)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "5 s"),
        (7, "5 s"),
        (52, "50 s"),
        (56, "1 min"),
        (240, "4 min"),
        (3580, "1 h"),
        (9000, "2 h 30 min"),
        (86400, "24 h"),
        (5 * 86400, "5 days"),
    ],
)
def test_durations_in_words(seconds, words):
    assert in_words(seconds) == words
