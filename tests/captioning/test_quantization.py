"""Weights in 8 and 4 bits: what is done where bitsandbytes is installed, and what is said where it is not."""

import importlib
import importlib.util
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_photos import refusal
from tiny_llava import build_tiny_llava, build_tiny_qwen
from transformers import AutoConfig, AutoModelForImageTextToText

from xpsr_cli.captioning.mllm import load_mllm
from xpsr_cli.captioning.mllm_files import MllmFiles
from xpsr_cli.captioning.quantization import check_quantization, kept_modules, quantization_config
from xpsr_cli.errors import MissingExtraError, UsageError
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import Precision, Quantization

CPU = torch.device("cpu")
LESS = [Quantization.EIGHT_BIT, Quantization.FOUR_BIT]
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (the extra quant)"
)


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return build_tiny_llava(tmp_path_factory.mktemp("mllm") / "tiny-llava")


def load(folder, quantize, precision=Precision.FP32):
    files = MllmFiles(folder.name, folder)
    return load_mllm(files, device="cpu", precision=precision, quantize=quantize, batch_size=4)


def looks_of(captioner):
    rng = np.random.default_rng(0)
    return [captioner.look(Photo(rng.integers(0, 255, (40, 60, 3), np.uint8) // (k + 1))) for k in range(4)]


def network_without_weights(folder):
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))


def test_without_quantization_nothing_is_asked_of_bitsandbytes(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    check_quantization(Quantization.NONE, CPU, torch.float32)
    assert quantization_config(Quantization.NONE, torch.float32, []) is None


@pytest.mark.parametrize("quantize", LESS)
def test_without_bitsandbytes_the_sentence_says_what_to_install(monkeypatch, quantize):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError) as caught:
        check_quantization(quantize, CPU, torch.float32)
    assert caught.value.message == f"quantize {quantize.value} needs bitsandbytes, which is not installed."
    assert caught.value.hint == "Run: pip install 'xpsr[quant]'"


def test_a_process_in_which_it_cannot_be_imported_ends_with_the_code_for_a_missing_extra(llava):
    code = f"""
import sys
sys.modules["bitsandbytes"] = None
from pathlib import Path
from xpsr_cli.captioning.mllm import load_mllm
from xpsr_cli.captioning.mllm_files import find_mllm
from xpsr_cli.errors import XpsrError
from xpsr_cli.settings import Quantization
try:
    load_mllm(find_mllm({str(llava)!r}), device="cpu", quantize=Quantization.FOUR_BIT)
except XpsrError as error:
    print(error.message, error.hint)
    sys.exit(error.exit_code)
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert made.returncode == 6
    assert made.stdout.strip() == (
        "quantize 4bit needs bitsandbytes, which is not installed. Run: pip install 'xpsr[quant]'"
    )
    assert made.stderr == ""


def test_an_installation_that_is_broken_is_told_from_one_that_is_missing(monkeypatch, tmp_path):
    (tmp_path / "bitsandbytes.py").write_text("raise OSError('libcudart.so.99: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(MissingExtraError, match=r"cannot be imported: libcudart\.so\.99"):
        check_quantization(Quantization.FOUR_BIT, CPU, torch.float32)


def test_only_the_language_model_is_quantised(llava, tmp_path):
    for folder, eyes in ((llava, "vision_tower"), (build_tiny_qwen(tmp_path / "qwen"), "visual")):
        network = network_without_weights(folder)
        linear = {name for name, layer in network.named_modules() if isinstance(layer, torch.nn.Linear)}
        quantised = linear - set(kept_modules(network))
        assert any(eyes in name for name in linear)
        assert {name.split(".")[1] for name in quantised} == {"language_model"}
        assert len(quantised) == 2 * 7  # two layers of four projections of attention and three of the rest


def test_layers_of_sizes_that_some_processors_do_not_take_are_kept(llava):
    config = AutoConfig.from_pretrained(llava)
    config.text_config.intermediate_size = 100
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(config)
    kept = [name for name in kept_modules(network) if "language_model" in name]
    assert sorted({name.rpartition(".")[2] for name in kept}) == ["down_proj", "gate_proj", "up_proj"]


def test_four_bits_are_nf4_with_quantised_scales():
    config = quantization_config(Quantization.FOUR_BIT, torch.bfloat16, ["lm_head"])
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert config.bnb_4bit_compute_dtype is torch.bfloat16
    assert config.llm_int8_skip_modules == ["lm_head"]
    assert quantization_config(Quantization.EIGHT_BIT, torch.bfloat16, []).load_in_8bit


@needs_bitsandbytes
@pytest.mark.parametrize("quantize", LESS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_this_machine_does_it(quantize, dtype):
    check_quantization(quantize, CPU, dtype)


@needs_bitsandbytes
@pytest.mark.parametrize("quantize", LESS)
def test_a_device_that_cannot_do_it_is_named_with_what_to_do(quantize):
    with refusal(UsageError, f"quantize {quantize.value} does not work on meta", "--quantize"):
        check_quantization(quantize, torch.device("meta"), torch.float32)


@needs_bitsandbytes
@pytest.mark.parametrize("quantize", LESS)
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
def test_photos_are_described_with_a_fraction_of_the_memory(llava, capfd, caplog, quantize, precision):
    plain = load(llava, Quantization.NONE, precision)
    small = load(llava, quantize, precision)
    captions = small.describe(looks_of(small))
    assert len({caption.low for caption in captions}) == 4
    decoders = [sum(_bytes(c.network.model.language_model.layers)) for c in (plain, small)]
    bits_before, bits = precision_bits(precision), {"8bit": 8, "4bit": 4.6}[quantize.value]
    assert decoders[1] / decoders[0] < 1.1 * bits / bits_before
    assert sum(_bytes(small.network.model.vision_tower)) == sum(_bytes(plain.network.model.vision_tower))
    assert capfd.readouterr().err == ""
    assert not [record for record in caplog.records if record.name.startswith("bitsandbytes")]


@needs_bitsandbytes
@pytest.mark.parametrize("quantize", LESS)
def test_the_next_word_is_about_as_likely_as_before(llava, quantize):
    plain, small = load(llava, Quantization.NONE), load(llava, quantize)
    picture = looks_of(plain)[0].whole
    inputs = plain.dialogue.inputs([picture], ["What is it?"])
    with torch.inference_mode():
        logits = [c.network(**inputs).logits[:, -1].float() for c in (plain, small)]
    similarity = torch.nn.functional.cosine_similarity(*logits).item()
    assert {"8bit": 0.995, "4bit": 0.9}[quantize.value] < similarity < 1


@needs_bitsandbytes
def test_what_bitsandbytes_logs_is_heard_again_afterwards(llava):
    logger = logging.getLogger("bitsandbytes")
    before = logger.level
    captioner = load(llava, Quantization.EIGHT_BIT)
    captioner.describe(looks_of(captioner))
    assert logger.level == before


def precision_bits(precision):
    return {Precision.FP32: 32, Precision.BF16: 16}[precision]


def _bytes(module):
    """Of the weights of linear layers, with the scales of those that are quantised."""
    for layer in module.modules():
        if not isinstance(layer, torch.nn.Linear):
            continue
        yield layer.weight.nbytes
        state = getattr(layer.weight, "quant_state", None)
        if state is not None:
            yield state.absmax.nbytes
