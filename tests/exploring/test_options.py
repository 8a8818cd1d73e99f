"""Options of an exploration: what is allowed, and that the command line can read them without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xpsr_cli.errors import UsageError
from xpsr_cli.exploring.options import ExploreOptions, Method, Travel
from xpsr_cli.settings import SchedulerName


@pytest.mark.parametrize(
    "values",
    [
        {"noise": -0.1},
        {"noise": 1.5},
        {"noise": float("nan")},
        {"strength": 1.01},
        {"steps": 0},
        {"rounds": -1},
        {"energy_weight": -1.0},
        {"energy_weight": float("nan")},
        {"travel": Travel(5, 2), "scheduler": SchedulerName.UNIPC},
    ],
)
def test_what_is_not_allowed_is_named(values):
    with pytest.raises(UsageError) as caught:
        ExploreOptions(**values)
    assert next(iter(values)) in caught.value.message
    assert caught.value.hint


def test_travel_is_length_and_repeat():
    assert Travel.parse("10x3") == Travel(10, 3)
    assert str(Travel.parse(" 5 x 2 ")) == "5x2"
    for text in ("10", "0x3", "3x0", "x", "-1x2", "1x2x3", "1.5x2"):
        with pytest.raises(UsageError, match="travel"):
            Travel.parse(text)


def test_steps_of_later_stages_keep_their_proportion():
    assert ExploreOptions().steps_of(25, 50) == 25
    assert ExploreOptions(steps=20).steps_of(50, 50) == 20
    assert ExploreOptions(steps=20).steps_of(25, 50) == 10
    assert ExploreOptions(steps=1).steps_of(7, 50) == 1


def test_methods_with_gradients():
    assert [method for method in Method if method.needs_gradient] == [Method.PIGDM, Method.DPS]


def test_reading_the_options_needs_no_torch():
    script = "import sys, xpsr_cli.exploring.options; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
