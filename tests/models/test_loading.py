import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from xpsr_cli.errors import WeightsError
from xpsr_cli.models.folders import WEIGHTS
from xpsr_cli.models.loading import Components, load_components, load_unet, save_components
from xpsr_cli.models.residual_autoencoder import ResidualAutoencoder
from xpsr_cli.settings import ColorFix, SamplingPreset, SchedulerName

GOLDEN = Path(__file__).parents[1] / "golden" / "xpsr"
PRESET = SamplingPreset(steps=4, scheduler=SchedulerName.DDIM, color_fix=ColorFix.NONE, negative_prompt="blurry")
SCHEDULE = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}


@pytest.fixture
def parts(make_unet, make_controlnet) -> dict[str, object]:
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=6, hidden_size=12, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
    )
    return {
        "tokenizer": tokenizer,
        "text_encoder": CLIPTextModel(text).eval(),
        "vae": ResidualAutoencoder(latent_channels=4, refiner_channels=4, refiner_blocks=1),
        "unet": make_unet(),
        "controlnet": make_controlnet(),
        "scheduler_config": SCHEDULE,
        "preset": PRESET,
    }


@pytest.fixture
def folder(tmp_path: Path, parts: dict[str, object]) -> Path:
    save_components(tmp_path / "mini", name="mini", **parts)
    return tmp_path / "mini"


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_saved_model_comes_back_whole(folder: Path, parts: dict[str, object]) -> None:
    loaded = load_components(folder)
    for part in ("text_encoder", "vae", "unet", "controlnet"):
        network = getattr(loaded, part)
        assert same_weights(network, parts[part]), part
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert type(loaded.vae) is ResidualAutoencoder
    assert (loaded.name, loaded.preset, loaded.scheduler_config) == ("mini", PRESET, SCHEDULE)
    assert loaded.tokenizer("a b").input_ids == parts["tokenizer"]("a b").input_ids


def test_dtype_is_taken_by_every_network(folder: Path) -> None:
    loaded = load_components(folder, dtype=torch.bfloat16)
    for network in (loaded.text_encoder, loaded.vae, loaded.unet, loaded.controlnet):
        assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


def test_channels_last_networks_can_be_saved(tmp_path: Path, parts: dict[str, object]) -> None:
    for part in ("vae", "unet", "controlnet"):
        parts[part].to(memory_format=torch.channels_last)
    save_components(tmp_path, name="mini", **parts)
    assert same_weights(load_components(tmp_path).vae, parts["vae"])


def test_the_fingerprint_follows_the_weights(folder: Path) -> None:
    before = load_components(folder).fingerprint
    assert len(before) == 64
    assert load_components(folder).fingerprint == before
    weights = load_file(folder / "unet" / WEIGHTS)
    weights["conv_in.bias"] += 1
    save_file(weights, folder / "unet" / WEIGHTS)
    assert load_components(folder).fingerprint != before


def checkpoint_beside_stable_diffusion(folder: Path, place: Path) -> tuple[Path, Path]:
    """A published checkpoint (unet and controlnet only) and the Stable Diffusion folder it needs."""
    checkpoint, base = place / "checkpoint-300000", place / "stable-diffusion"
    for part in ("unet", "controlnet"):
        shutil.copytree(folder / part, checkpoint / part)
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(folder / part, base / part)
    for part in ("vae", "scheduler"):
        shutil.copytree(GOLDEN / part, base / part)
    return checkpoint, base


def test_a_published_checkpoint_takes_the_rest_from_stable_diffusion(folder: Path, tmp_path: Path) -> None:
    checkpoint, base = checkpoint_beside_stable_diffusion(folder, tmp_path)
    loaded = load_components(checkpoint, stable_diffusion=base)
    assert type(loaded.vae) is AutoencoderKL
    assert loaded.preset == SamplingPreset()
    assert loaded.name == "checkpoint-300000"
    assert loaded.scheduler_config["beta_end"] == 0.012
    with pytest.raises(WeightsError, match="has no text_encoder/ folder") as caught:
        load_components(checkpoint)
    assert "Stable Diffusion" in caught.value.hint


def test_the_old_files_of_stable_diffusion_load(folder: Path, tmp_path: Path, parts: dict[str, object]) -> None:
    checkpoint, base = checkpoint_beside_stable_diffusion(folder, tmp_path)
    file = base / "text_encoder" / "model.safetensors"
    old = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(file).items()}
    save_file({**old, "text_model.embeddings.position_ids": torch.arange(77)[None]}, file, metadata={"format": "pt"})
    shutil.rmtree(base / "tokenizer")
    (base / "tokenizer").mkdir()
    (base / "tokenizer" / "vocab.json").write_text(json.dumps(parts["tokenizer"].get_vocab()))
    (base / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    loaded = load_components(checkpoint, stable_diffusion=base)
    assert same_weights(loaded.text_encoder, parts["text_encoder"])
    assert loaded.tokenizer("a b").input_ids == parts["tokenizer"]("a b").input_ids


def test_an_autoencoder_with_the_old_attention_names_loads(folder: Path, tmp_path: Path) -> None:
    checkpoint, base = checkpoint_beside_stable_diffusion(folder, tmp_path)
    expected = load_components(checkpoint, stable_diffusion=base).vae
    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    weights = {}
    for key, value in load_file(base / "vae" / WEIGHTS).items():
        for new, name in old.items():
            key = key.replace(new, name)
        weights[key] = value
    assert any("proj_attn" in key for key in weights)
    save_file(weights, base / "vae" / WEIGHTS)
    assert same_weights(load_components(checkpoint, stable_diffusion=base).vae, expected)


@pytest.mark.parametrize(("part", "file"), [("vae", WEIGHTS), ("text_encoder", "model.safetensors")])
def test_the_other_parts_are_strict_too(part: str, file: str, folder: Path) -> None:
    weights = load_file(folder / part / file)
    first = sorted(weights)[0]
    save_file({key: value for key, value in weights.items() if key != first}, folder / part / file)
    with pytest.raises(WeightsError, match="1 missing"):
        load_components(folder)
    save_file({**weights, "stranger": torch.zeros(1)}, folder / part / file)
    with pytest.raises(WeightsError, match="1 unexpected"):
        load_components(folder)
    (folder / part / file).rename((folder / part / file).with_suffix(".bin"))
    with pytest.raises(WeightsError, match="is a pickle"):
        load_components(folder)


def test_an_unknown_autoencoder_is_refused_by_name(folder: Path) -> None:
    (folder / "vae" / "config.json").write_text('{"_class_name": "VQModel"}')
    with pytest.raises(WeightsError, match="'VQModel'"):
        load_components(folder)


@pytest.mark.parametrize("preset", [{"stepz": 4}, {"scheduler": "euler"}, [4], 4])
def test_a_preset_that_cannot_be_followed_is_refused(preset: object, folder: Path) -> None:
    (folder / "xpsr.json").write_text(json.dumps({"preset": preset}))
    with pytest.raises(WeightsError, match=r"xpsr\.json"):
        load_components(folder)


def test_a_missing_tokenizer_or_network_is_a_weights_error(folder: Path) -> None:
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(WeightsError, match="tokenizer"):
        load_components(folder)
    shutil.rmtree(folder / "controlnet")
    with pytest.raises(WeightsError, match="controlnet"):
        load_components(folder)


def test_a_tokenizer_with_more_words_than_the_text_encoder_is_refused(folder: Path) -> None:
    big = CLIPTokenizer(vocab={f"{i}</w>": i for i in range(40)}, merges=[])
    big.save_pretrained(folder / "tokenizer")
    with pytest.raises(WeightsError, match="knows 6"):
        load_components(folder)


def test_loading_and_saving_draw_nothing(folder: Path, tmp_path: Path, parts: dict[str, object], capfd) -> None:
    load_components(folder, dtype=torch.bfloat16)
    save_components(tmp_path / "again", name="again", **parts)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_saving_half_precision_halves_the_files(folder: Path, tmp_path: Path, parts: dict[str, object]) -> None:
    size = (folder / "unet" / WEIGHTS).stat().st_size
    save_components(tmp_path / "half", name="half", **{**parts, "unet": parts["unet"].half()})
    assert (tmp_path / "half" / "unet" / WEIGHTS).stat().st_size < 0.65 * size
    assert {p.dtype for p in load_components(tmp_path / "half").unet.parameters()} == {torch.float32}
    assert load_unet(tmp_path / "half" / "unet").conv_in.weight.dtype == torch.float32


def test_components_can_be_put_together_by_hand(parts: dict[str, object]) -> None:
    components = Components(name="fresh", **parts)
    assert components.fingerprint == Components(name="other", **replace_preset(parts)).fingerprint


def replace_preset(parts: dict[str, object]) -> dict[str, object]:
    return {**parts, "preset": replace(PRESET, steps=5)}
