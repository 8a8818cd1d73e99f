"""Settings take the words of the command line from Python too, and refuse others by name."""

import pytest

from xpsr_cli.errors import UsageError
from xpsr_cli.settings import ColorFix, SchedulerName, UpscaleSettings


def test_a_word_becomes_its_choice() -> None:
    settings = UpscaleSettings(color_fix="wavelet", scheduler="dpmsolver++")
    assert settings.color_fix is ColorFix.WAVELET
    assert settings.scheduler is SchedulerName.DPMSOLVERPP
    assert UpscaleSettings().color_fix is None


def test_another_word_is_refused_with_the_right_ones() -> None:
    with pytest.raises(UsageError, match="color-fix is 'sepia', allowed is adain, wavelet, none"):
        UpscaleSettings(color_fix="sepia")
