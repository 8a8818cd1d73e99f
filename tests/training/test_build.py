"""What training starts from: sizes as the recipe says, at full size too, and a tokenizer that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from large_photos import TINY_MINI, save_photos
from small_photos import refusal
from transformers import CLIPTextConfig, CLIPTextModel

from xpsr_cli.errors import WeightsError
from xpsr_cli.models.loading import load_components
from xpsr_cli.training.bases import build_upon
from xpsr_cli.training.build import (
    MINI_PRESET,
    build_mini,
    build_tokenizer,
    check_sizes,
    keep_tokenizer,
    run_tokenizer,
)
from xpsr_cli.training.dataset import read_photos
from xpsr_cli.training.networks import TrainedNetworks
from xpsr_cli.training.recipe import MiniModelRecipe, StableDiffusionRecipe, load_recipe
from xpsr_cli.training.training_photo import SmallPhoto, TrainingPhoto
from xpsr_cli.weights import find_model, read_preset

SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}
SD21 = {
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
    "upcast_attention": True,
}


def networks_on(name: str, text: dict[str, int], unet: dict[str, object]) -> TrainedNetworks:
    """A shipped recipe on a base of full size, without memory: no values."""
    recipe = load_recipe(name).model
    assert isinstance(recipe, StableDiffusionRecipe)
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        networks = build_upon(UNet2DConditionModel(**unet), recipe)
        return TrainedNetworks(CLIPTextModel(CLIPTextConfig(**text)), vae, *networks)


def test_the_paper_s_recipe_trains_what_the_paper_trains() -> None:
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    trained = networks_on("xpsr-sd15", text, SD15).trained()
    assert sum(parameter.numel() for parameter in trained.values()) == 868_451_469
    assert len(trained) == 1048
    assert {name.partition(".")[0] for name in trained} == {"unet", "controlnet"}


def test_a_wider_text_and_linear_projections_change_what_they_must() -> None:
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23}
    networks = networks_on("xpsr-sd21", text, SD21)
    trained = networks.trained()
    assert len(trained) == 1048
    fusion = networks.controlnet.down_blocks[0].attentions[0]
    assert fusion.low.transformer_blocks[0].attn2.to_k.weight.shape == (320, 1024)
    assert fusion.low.proj_in.weight.shape == (320, 320)
    # 14 text attentions of the ControlNet read 256 channels more: keys and values, at 4, 4 and 6 of three widths
    wider = 2 * 256 * (4 * 320 + 4 * 640 + 6 * 1280)
    assert sum(parameter.numel() for parameter in trained.values()) == 868_451_469 + wider


@pytest.fixture
def sizes() -> MiniModelRecipe:
    recipe = load_recipe("xpsr-mini", list(TINY_MINI)).model
    assert isinstance(recipe, MiniModelRecipe)
    return recipe


def test_a_model_of_other_sizes_is_refused_by_part_and_key(sizes: MiniModelRecipe, tiny_model: Path) -> None:
    with refusal(WeightsError, "tiny", "unet", "conv_in.weight", "does not fit the recipe", "finetune"):
        check_sizes(load_components(tiny_model), sizes, str(tiny_model))
    model = build_mini(sizes, build_tokenizer(["a house"], vocabulary=256), "mine", seed=0)
    check_sizes(model, sizes, "mine")


def test_a_run_keeps_its_tokenizer(tmp_path: Path) -> None:
    photos = read_photos(save_photos(tmp_path / "photos"))
    first = run_tokenizer(tmp_path / "tokenizer", photos, "words")
    assert first("a photo of object, very blurred").input_ids[0] == first.bos_token_id
    again = run_tokenizer(tmp_path / "tokenizer", [], "words")
    assert again.get_vocab() == first.get_vocab()
    assert [path.name for path in tmp_path.iterdir() if "tokenizer" in path.name] == ["tokenizer"]


def test_a_tokenizer_that_the_disk_does_not_hold_is_absent(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    tokenizer = build_tokenizer(["a house"], vocabulary=600)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with refusal(WeightsError, "tokenizer could not be saved", "make room"):
            keep_tokenizer(tokenizer, tmp_path / "run" / "tokenizer")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "run").iterdir()) == []


def test_the_vocabulary_holds_the_texts_that_are_trained_on(tmp_path: Path) -> None:
    picture = read_photos(save_photos(tmp_path / "photos", count=1))[0].picture
    photo = TrainingPhoto(
        "0.png", picture, "0", high="a weathered lighthouse", low="immaculate", small=SmallPhoto(picture, 1, "murky")
    )
    tokenizer = run_tokenizer(tmp_path / "store", [photo] * 3, "store")
    for word in ("weathered", "lighthouse", "immaculate", "murky", "clean", "lowres"):
        assert tokenizer.tokenize(word) == [f"{word}</w>"]
    unsaid = run_tokenizer(tmp_path / "none", [photo] * 3, "none")
    assert len(unsaid.tokenize("lighthouse")) > 1


@pytest.mark.parametrize(
    "text", ["café", "Straßenbau", "日本の写真", "a photo 😀", "don't", "12 %", "na\u0308her", "\x07"]
)
def test_no_word_of_any_language_is_unknown(text: str) -> None:
    for learned in ([], ["ein café"], [text] * 3):
        tokenizer = build_tokenizer(learned, vocabulary=600)
        assert len(tokenizer) <= 600
        assert tokenizer.unk_token not in tokenizer.tokenize(text)
        understood = tokenizer.decode(tokenizer(text).input_ids[1:-1])
        written = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
        assert "".join(understood.split()) == "".join(written.split())


def test_the_preset_of_new_small_models_is_that_of_the_one_that_ships() -> None:
    assert read_preset(find_model("xpsr-mini")) == MINI_PRESET
