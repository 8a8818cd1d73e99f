"""Which folders hold a multimodal model, what those that do not are, and what tells two models apart."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_photos import refusal
from tiny_llava import build_tiny_llava

from xpsr_cli.captioning.captions import HIGH_INSTRUCTION, LOW_INSTRUCTION
from xpsr_cli.captioning.mllm_files import DEFAULT_MLLM, find_mllm, installed_mllm, mllm_key, weights_files
from xpsr_cli.errors import WeightsError
from xpsr_cli.settings import Quantization
from xpsr_cli.weights import load_registry, user_folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_tiny_llava(tmp_path_factory.mktemp("mllm") / "tiny-llava")


@pytest.fixture
def llava(built, tmp_path):
    """A copy that may be changed."""
    folder = tmp_path / "tiny-llava"
    copy(built, folder)
    return folder


def copy(source, target):
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def install(source, target):
    """As the default model would lie there: every file of the registry, the weights in one of its parts."""
    copy(source, target)
    (target / "model.safetensors").rename(target / "model-00001-of-00003.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00003.safetensors"}}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    for file in load_registry()[DEFAULT_MLLM].files:
        (target / file.path).touch()


def cache_on_the_hub(source, hub_id, revision="abc123", put=copy):
    model = Path(os.environ["HF_HOME"]) / "hub" / f"models--{hub_id.replace('/', '--')}"
    (model / "refs").mkdir(parents=True, exist_ok=True)
    (model / "refs" / "main").write_text(revision)
    put(source, model / "snapshots" / revision)


def test_a_folder_is_named_by_its_last_part(llava, monkeypatch):
    assert find_mllm(str(llava)).name == "tiny-llava"
    monkeypatch.chdir(llava)
    found = find_mllm(".")
    assert found.name == "tiny-llava"
    assert found.folder.samefile(llava)


def test_the_default_is_found_where_weights_are_pulled_to(built):
    assert installed_mllm() is None
    with pytest.raises(WeightsError, match=f"{DEFAULT_MLLM} is not installed") as caught:
        find_mllm(DEFAULT_MLLM)
    assert caught.value.hint == f"Run: xpsr weights pull {DEFAULT_MLLM}"
    install(built, user_folder() / DEFAULT_MLLM)
    assert find_mllm(DEFAULT_MLLM) == installed_mllm()
    assert find_mllm("llava-hf/llava-1.5-7b-hf") == installed_mllm()
    assert installed_mllm().folder == user_folder() / DEFAULT_MLLM


def test_the_default_is_found_in_the_cache_of_the_hub(built):
    cache_on_the_hub(built, "llava-hf/llava-1.5-7b-hf", put=install)
    assert installed_mllm().folder.name == "abc123"
    assert mllm_key(installed_mllm()).model == "revision:abc123"


def test_any_model_in_the_cache_of_the_hub_is_found_by_its_id(built):
    cache_on_the_hub(built, "somebody/some-llava")
    found = find_mllm("somebody/some-llava")
    assert found.name == "somebody/some-llava"
    assert mllm_key(found).model == "revision:abc123"
    cache_on_the_hub(built, "somebody/some-llava", revision="def456")
    assert mllm_key(find_mllm("somebody/some-llava")).model == "revision:def456"


@pytest.mark.parametrize("name", ["no-such-model", "somebody/nothing", "./nothing", "/no/such/folder"])
def test_what_is_nowhere_is_refused(name):
    with refusal(WeightsError, name, DEFAULT_MLLM):
        find_mllm(name)


@pytest.mark.parametrize("name", ["xpsr-mini", "stable-diffusion-1.5"])
def test_weights_of_another_kind_are_refused(name):
    with refusal(WeightsError, name, "no captioner", DEFAULT_MLLM):
        find_mllm(name)


def test_the_folder_of_the_shipped_upscaler_is_refused():
    folder = Path(__file__).parents[2] / "weights" / "xpsr-mini"
    with refusal(WeightsError, folder, "config.json is missing"):
        find_mllm(str(folder))
    with refusal(WeightsError, "part of a diffusers pipeline"):
        find_mllm(str(folder / "unet"))
    with refusal(WeightsError, "CLIPTextModel"):
        find_mllm(str(folder / "text_encoder"))


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["CLIPModel"], "model_type": "clip", "vision_config": {}, "text_config": {}},
        {"architectures": ["SiglipModel"], "model_type": "siglip", "vision_config": {}, "text_config": {}},
        {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"},
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        {"architectures": ["ViTForImageClassification"], "model_type": "vit"},
        {"architectures": ["CLIPForImageClassification"], "model_type": "clip", "vision_config": {}},
    ],
)
def test_networks_that_do_not_answer_on_images_are_named(llava, config):
    (llava / "config.json").write_text(json.dumps(config))
    with refusal(WeightsError, llava, config["architectures"][0]):
        find_mllm(str(llava))


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "vision_config": {}},
        {"architectures": ["IdeficsForVisionText2Text"], "model_type": "idefics", "vision_config": {}},
        {"architectures": ["FuyuForCausalLM"], "model_type": "fuyu"},
        {"architectures": ["ChameleonForConditionalGeneration"], "model_type": "chameleon", "vq_config": {}},
        {"architectures": None, "model_type": "llava", "vision_config": {}},
        {"model_type": "llava", "vision_config": {}},
    ],
)
def test_networks_that_do_are_taken(llava, config):
    (llava / "config.json").write_text(json.dumps(config))
    assert find_mllm(str(llava)).folder == llava


def test_a_whole_pipeline_is_refused(llava):
    (llava / "model_index.json").write_text("{}")
    with refusal(WeightsError, llava, "diffusers pipeline"):
        find_mllm(str(llava))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", b"{not json", "cannot be read"),
        ("config.json", b"\xff\xfe", "cannot be read"),
        ("config.json", b"[]", "a list"),
        ("processor_config.json", None, "image processor"),
        ("tokenizer", None, "tokenizer"),
        ("model.safetensors", None, "does not exist"),
    ],
)
def test_what_is_missing_or_damaged_is_named(llava, name, content, words):
    for file in llava.glob(f"{name}*"):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
    with refusal(WeightsError, llava, words):
        find_mllm(str(llava))


def test_pickles_are_refused(llava):
    (llava / "model.safetensors").rename(llava / "pytorch_model.bin")
    with refusal(WeightsError, llava / "pytorch_model.bin", "pickle"):
        find_mllm(str(llava))


def test_every_part_of_the_weights_must_be_there(llava):
    (llava / "model.safetensors").rename(llava / "model-1.safetensors")
    index = llava / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    with refusal(WeightsError, llava / "model-2.safetensors"):
        find_mllm(str(llava))
    (llava / "model-2.safetensors").touch()
    assert [file.name for file in weights_files(llava)] == ["model-1.safetensors", "model-2.safetensors"]
    index.write_text('{"weight_map": 3}')
    with refusal(WeightsError, index, "damaged"):
        find_mllm(str(llava))


def test_a_key_says_what_decides_the_texts(llava):
    files = find_mllm(str(llava))
    key = mllm_key(files)
    assert key.name == "tiny-llava"
    assert key == mllm_key(files, Quantization.NONE)
    assert {HIGH_INSTRUCTION, LOW_INSTRUCTION, "none"} < {value for _, value in key.settings}
    others = [key, mllm_key(files, Quantization.FOUR_BIT), mllm_key(files, Quantization.EIGHT_BIT)]
    assert len({other.digest for other in others}) == 3


@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "processor_config.json", "tokenizer.json"])
def test_another_content_is_another_key(llava, name):
    files = find_mllm(str(llava))
    before = mllm_key(files)
    (llava / name).write_text((llava / name).read_text() + " ")
    assert mllm_key(files).model != before.model


def test_other_weights_are_another_key_and_a_moved_folder_is_not(llava):
    files = find_mllm(str(llava))
    before = mllm_key(files)
    llava.rename(llava.with_name("moved"))
    moved = replace(files, folder=llava.with_name("moved"))
    assert mllm_key(moved) == before
    weights = moved.folder / "model.safetensors"
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    assert mllm_key(moved).model != before.model


def test_the_hashes_taken_on_arrival_identify_what_was_pulled(built, llava):
    install(built, user_folder() / DEFAULT_MLLM)
    sums = user_folder() / DEFAULT_MLLM / "SHA256SUMS"
    sums.write_text("0 model")
    first = mllm_key(installed_mllm())
    os.utime(user_folder() / DEFAULT_MLLM / "model-00001-of-00003.safetensors", ns=(0, 0))
    assert mllm_key(installed_mllm()) == first
    sums.write_text("1 model")
    assert mllm_key(installed_mllm()) != first
    before = mllm_key(find_mllm(str(llava)))
    (llava / "SHA256SUMS").write_text("0 model")  # anywhere else nobody has taken them
    assert mllm_key(find_mllm(str(llava))) == before


def test_only_the_standard_library_is_imported():
    code = (
        "import sys; before = set(sys.modules); import xpsr_cli.captioning.mllm_files; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(made.stdout.split()) == {"xpsr_cli"}
