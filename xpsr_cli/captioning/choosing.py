"""Who describes the photos: the multimodal model that is installed, a named one, a server, or plain measuring.

Only standard-library parts are imported until a captioner is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xpsr_cli.captioning.captions import Captioner, CaptionerKey
from xpsr_cli.errors import UsageError
from xpsr_cli.settings import Precision, Quantization
from xpsr_cli.weights import entry_named

AUTO = "auto"
MEASURED = "measured"


@dataclass(frozen=True)
class CaptionerChoice:
    """A captioner that can be loaded. ``note`` is what a person should know about the choice."""

    key: CaptionerKey
    load: Callable[[], Captioner]
    note: str = ""


def choose_captioner(
    model: str = AUTO,
    *,
    endpoint: str | None = None,
    quantize: Quantization = Quantization.NONE,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    batch_size: int | None = None,
) -> CaptionerChoice:
    """The captioner that ``model`` names; nothing is loaded yet.

    ``"auto"`` is the default multimodal model if it is installed, else ``"measured"``, and the choice's note says so.
    Any other ``model`` is a name of the registry, a folder, or a hub id in the Hugging Face cache; with ``endpoint``
    it is what the server at that address calls its model. ``batch_size`` is of photos at once, ``None`` what suits
    the device. :class:`~xpsr_cli.errors.WeightsError` for what is not there, :class:`UsageError` for settings that
    contradict each other.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}, and 1 is the least.", "Leave it out for what suits the device.")
    if endpoint is not None:
        _refuse(quantize, "a server quantizes its model itself")
        return _server(endpoint, model, batch_size)
    if model == MEASURED:
        _refuse(quantize, "measuring takes no weights")
        return _measured()
    return _multimodal(model, quantize, device, precision, batch_size)


def _refuse(quantize: Quantization, why: str) -> None:
    if quantize is not Quantization.NONE:
        raise UsageError(f"quantize is {quantize.value}, but {why}.", "Leave it out.")


def _server(url: str, model: str, batch_size: int | None) -> CaptionerChoice:
    from xpsr_cli.captioning.endpoint import endpoint_key, open_endpoint

    if model == MEASURED:
        raise UsageError(f"The captioner is {MEASURED}, which needs no server at {url}.", "Give one of the two.")
    name = None if model == AUTO else model
    return CaptionerChoice(endpoint_key(url, name), lambda: open_endpoint(url, name, batch_size))


def _measured(note: str = "") -> CaptionerChoice:
    from xpsr_cli.captioning.measured import MEASURED_KEY, MeasuredCaptioner

    return CaptionerChoice(MEASURED_KEY, MeasuredCaptioner, note)


def _multimodal(
    model: str, quantize: Quantization, device: str, precision: Precision, batch_size: int | None
) -> CaptionerChoice:
    from xpsr_cli.captioning.mllm_files import DEFAULT_MLLM, find_mllm, installed_mllm, mllm_key

    files = installed_mllm() if model == AUTO else find_mllm(model)
    if files is None:
        what = "No multimodal model is installed, so photos are measured: how good they are, not what is in them."
        return _measured(f"{what} {entry_named(DEFAULT_MLLM).how_to_get}")

    def load() -> Captioner:
        from xpsr_cli.captioning.mllm import load_mllm

        return load_mllm(files, device=device, precision=precision, quantize=quantize, batch_size=batch_size)

    return CaptionerChoice(mllm_key(files, quantize), load)
