"""Which prior a name means, and what is said where it means none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_cascade import WORDS, save_tiny_cascade
from tiny_priors import save_deepfloyd, save_prior_folder, save_tiny_autoencoder, save_unclip
from transformers import CLIPTextModel, T5EncoderModel

from xpsr_cli import weights
from xpsr_cli.device import Placement
from xpsr_cli.errors import OutOfMemoryError, UsageError, WeightsError, XpsrError
from xpsr_cli.exploring.prior_loading import load_prior
from xpsr_cli.exploring.published import load_network, weights_files
from xpsr_cli.weights import Kind, WeightsEntry, WeightsFile

PLACEMENT = Placement(torch.device("cpu"), torch.float32)
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind."""
    folder = tmp_path_factory.mktemp("models")
    first, second = save_deepfloyd(folder)
    karlo, variation = save_unclip(folder)
    sd, tiny = save_prior_folder(folder / "sd"), save_tiny_autoencoder(folder / "taesd")
    names = ("first", "second", "karlo", "variation", "sd", "tiny")
    return dict(zip(names, (first, second, karlo, variation, sd, tiny), strict=True))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Puts a folder into a Hugging Face cache of this test's own, under a hub id."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(hub_id: str, folder: Path) -> None:
        model = tmp_path / "hub" / f"models--{hub_id.replace('/', '--')}"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("abc", encoding="utf-8")
        shutil.copytree(folder, model / "snapshots" / "abc")

    return put


def refusal(name: str) -> XpsrError:
    with pytest.raises(XpsrError) as caught:
        load_prior(name, PLACEMENT)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("first", "second"), "DeepFloydPrior"),
        (("first",), "DeepFloydPrior"),
        (("karlo", "variation"), "UnclipPrior"),
        (("karlo",), "UnclipPrior"),
        (("sd", "tiny"), "StableDiffusionPrior"),
        (("sd",), "StableDiffusionPrior"),
    ],
)
def test_folders_say_what_they_are(models: dict[str, Path], names: tuple[str, ...], expected: str) -> None:
    name = ",".join(str(models[part]) for part in names)
    prior = load_prior(name, PLACEMENT)
    assert (type(prior).__name__, prior.name) == (expected, name)


def test_hub_ids_in_the_cache_are_found(models: dict[str, Path], cache: Callable[[str, Path], None]) -> None:
    cache("DeepFloyd/IF-I-M-v1.0", models["first"])
    cache("DeepFloyd/IF-II-M-v1.0", models["second"])
    prior = load_prior("DeepFloyd/IF-I-M-v1.0, DeepFloyd/IF-II-M-v1.0", PLACEMENT)
    assert [stage.name for stage in prior.stages((8, 8), (32, 32))] == ["base", "refiner"]


def test_a_hub_id_that_is_not_there_says_how_to_get_it(cache: Callable[[str, Path], None]) -> None:
    error = refusal("someone/karlo")
    assert "'someone/karlo' is neither a folder nor a model in the Hugging Face cache" in error.message
    assert "hf download someone/karlo" in error.hint


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Adds an entry to the registry; the folder it is to be installed in."""
    monkeypatch.setenv("XPSR_WEIGHTS", str(tmp_path / "weights"))
    known = dict(weights.load_registry())
    monkeypatch.setattr("xpsr_cli.exploring.prior_loading.load_registry", lambda: known)

    def add(name: str, **fields: Any) -> Path:
        entry = WeightsEntry(name, Kind.BASE, "", "", files=(WeightsFile("model_index.json", 1),))
        known[name] = replace(entry, **fields)
        return tmp_path / "weights" / name

    return add


def test_a_registered_name_brings_what_it_needs(models: dict[str, Path], registered: Callable[..., Path]) -> None:
    shutil.copytree(models["first"], registered("deepfloyd-if", needs=("deepfloyd-if-2",)))
    shutil.copytree(models["second"], registered("deepfloyd-if-2"))
    assert len(load_prior("deepfloyd-if", PLACEMENT).stages((8, 8), (32, 32))) == 2


def test_a_registered_name_that_is_not_installed_says_how_to_get_it(registered: Callable[..., Path]) -> None:
    registered("karlo", hub_ids=("someone/karlo",))
    for name in ("karlo", "someone/karlo"):
        error = refusal(name)
        assert (error.message, error.hint) == ("The model karlo is not installed.", "Run: xpsr weights pull karlo")


def test_the_cascade_that_ships_is_found_by_name_and_by_folder(
    registered: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny_cascade(tmp_path / "shipped" / "xpsr-words")
    assert load_prior(str(folder), PLACEMENT).vocabulary == list(WORDS)
    registered("xpsr-words", shipped=True)
    assert "not installed" in refusal("xpsr-words").message
    monkeypatch.setattr("xpsr_cli.weights.shipped_folder", lambda: tmp_path / "shipped")
    assert load_prior("xpsr-words", PLACEMENT).vocabulary == list(WORDS)
    assert "one folder too many for pixel-cascade" in refusal(f"xpsr-words,{folder}").message


@pytest.mark.parametrize("kind", ["StableDiffusionXLPipeline", "KandinskyV22Pipeline"])
def test_other_pipelines_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}), encoding="utf-8")
    error = refusal(str(tmp_path))
    assert f"holds {kind}, which is no prior" in error.message
    assert "DeepFloyd IF, unCLIP (Karlo), Stable Diffusion" in error.hint


def test_an_upscaler_is_no_prior() -> None:
    assert "holds an xpsr upscaler, which is no prior" in refusal("xpsr-mini").message


def test_other_networks_are_refused_by_name(models: dict[str, Path]) -> None:
    assert "holds UNet2DConditionModel" in refusal(str(models["sd"] / "unet")).message
    assert "holds clip_text_model" in refusal(str(models["sd"] / "text_encoder")).message


@pytest.mark.parametrize("name", ["", " , "])
def test_nothing_is_no_prior(name: str) -> None:
    assert isinstance(refusal(name), UsageError)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    assert "is not a model" in refusal(str(tmp_path)).message
    assert "There is no prior named 'imagen'" in refusal("imagen").message


def test_the_second_stage_alone_is_refused(models: dict[str, Path]) -> None:
    assert "needs stage I before it" in refusal(str(models["second"])).message


@pytest.mark.parametrize(("first", "beside"), [("sd", "second"), ("first", "variation"), ("karlo", "tiny")])
def test_folders_that_do_not_belong_together_are_refused(models: dict[str, Path], first: str, beside: str) -> None:
    assert "only" in refusal(f"{models[first]},{models[beside]}").message


def test_a_folder_too_many_is_refused(models: dict[str, Path]) -> None:
    assert "one folder too many" in refusal(f"{models['sd']},{models['tiny']},{models['tiny']}").message


def test_a_model_larger_than_the_memory_is_one_sentence(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", full)
    error = refusal(str(models["sd"]))
    assert isinstance(error, OutOfMemoryError)
    assert error.message == f"The memory does not suffice for loading {models['sd']}."


def copied(models: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(models["sd"], tmp_path / "sd"))


def test_a_missing_part_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(models, tmp_path)
    shutil.rmtree(folder / "vae")
    assert "has no vae/ folder, which Stable Diffusion needs" in refusal(str(folder)).message


def test_pickles_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(models, tmp_path)
    (folder / "unet" / DIFFUSERS_WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    assert "is a pickle" in refusal(str(folder)).message
    (folder / "unet" / "diffusion_pytorch_model.bin").unlink()
    assert "has no safetensors file" in refusal(str(folder)).message


def change(path: Path, changed: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(path)
    changed(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_that_do_not_fit_are_refused(models: dict[str, Path], tmp_path: Path, part: str) -> None:
    path = weights_files(models["sd"] / part)[0].relative_to(models["sd"])
    key = sorted(load_file(models["sd"] / path))[0]

    def without(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[key]

    def beyond(tensors: dict[str, torch.Tensor]) -> None:
        tensors["another.weight"] = torch.zeros(1)

    def reshaped(tensors: dict[str, torch.Tensor]) -> None:
        tensors[key] = torch.zeros(3, 5)

    for number, changed in enumerate((without, beyond, reshaped)):
        folder = copied(models, tmp_path / str(number))
        change(folder / path, changed)
        error = refusal(str(folder))
        assert isinstance(error, WeightsError)
        assert str(folder / part) in error.message


def test_a_damaged_file_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(models, tmp_path)
    path = folder / "unet" / DIFFUSERS_WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be loaded as UNet2DConditionModel" in refusal(str(folder)).message


def test_a_network_of_another_class_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(models, tmp_path)
    shutil.rmtree(folder / "unet")
    shutil.copytree(models["karlo"] / "super_res_first", folder / "unet")
    assert "names 'UNet2DModel' instead of UNet2DConditionModel" in refusal(str(folder)).message


def test_position_ids_of_old_text_encoders_are_no_stranger(models: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(models, tmp_path)

    def with_positions(tensors: dict[str, torch.Tensor]) -> None:
        stem = "text_model." if any(key.startswith("text_model.") for key in tensors) else ""
        tensors[f"{stem}embeddings.position_ids"] = torch.arange(77)[None]

    change(folder / "text_encoder" / "model.safetensors", with_positions)
    load_prior(str(folder), PLACEMENT)


def test_old_names_of_an_autoencoders_attention_are_known(models: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(models, tmp_path)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def as_of_old(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if "attentions" in key]:
            old = next((key.replace(f".{new}.", f".{name}.") for new, name in names.items() if f".{new}." in key), key)
            tensors[old] = tensors.pop(key)
        assert any(".proj_attn." in key for key in tensors)

    change(folder / "vae" / DIFFUSERS_WEIGHTS, as_of_old)
    old, new = load_prior(str(folder), PLACEMENT), load_prior(str(models["sd"]), PLACEMENT)
    (stage, same) = (prior.stages((4, 4), (16, 16))[0] for prior in (old, new))
    canvas = torch.randn(1, 4, 2, 2)
    assert torch.equal(stage.decode(canvas), same.decode(canvas))


def test_tied_embeddings_may_be_stored_twice_or_once(models: dict[str, Path], tmp_path: Path) -> None:
    part = models["first"] / "text_encoder"
    expected = load_network(T5EncoderModel, part, torch.float32).state_dict()
    shared, tied = "shared.weight", "encoder.embed_tokens.weight"
    for kept in ((shared, tied), (shared,), (tied,)):
        folder = Path(shutil.copytree(part, tmp_path / "-".join(kept)))

        def stored(tensors: dict[str, torch.Tensor], kept: tuple[str, ...] = kept) -> None:
            embedding = next(tensors.pop(key) for key in (shared, tied) if key in tensors)
            tensors |= {key: embedding.clone() for key in kept}

        change(folder / "model.safetensors", stored)
        read = load_network(T5EncoderModel, folder, torch.float32).state_dict()
        assert all(torch.equal(read[key], value) for key, value in expected.items())


def test_shards_and_half_precision_variants_are_read(models: dict[str, Path], tmp_path: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(models["sd"] / "unet")
    text = CLIPTextModel.from_pretrained(models["sd"] / "text_encoder")
    for network, cls in ((unet, UNet2DConditionModel), (text, CLIPTextModel)):
        for variant in (None, "fp16"):
            for shard in ("1GB", "20KB"):
                folder = tmp_path / f"{cls.__name__}-{variant}-{shard}"
                network.save_pretrained(folder, variant=variant, max_shard_size=shard)
                files = weights_files(folder)
                assert (len(files) > 1) == (shard == "20KB")
                read = load_network(cls, folder, torch.float32).state_dict()
                assert all(torch.equal(read[key], value) for key, value in network.state_dict().items())


def test_whole_precision_goes_before_half(models: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models["sd"] / "unet", tmp_path / "unet"))
    for other in ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.non_ema.safetensors"):
        shutil.copy(folder / DIFFUSERS_WEIGHTS, folder / other)
    assert weights_files(folder) == (folder / DIFFUSERS_WEIGHTS,)
    (folder / DIFFUSERS_WEIGHTS).unlink()
    assert weights_files(folder) == (folder / "diffusion_pytorch_model.fp16.safetensors",)
