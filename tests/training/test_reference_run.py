"""An add-on in training: what is frozen, what a reference may be, whole tiny runs, and what comes out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from large_photos import save_photos, sets
from small_photos import refusal

from xpsr_cli.errors import UsageError, WeightsError
from xpsr_cli.models.loading import Components, load_components
from xpsr_cli.models.reference_loading import load_reference, named_weights
from xpsr_cli.training.recipe import Recipe, load_recipe
from xpsr_cli.training.recipe_limits import REFERENCES
from xpsr_cli.training.reference_networks import ReferenceNetworks, ReferenceObjective, with_reference
from xpsr_cli.training.references import DEGRADED, FIRST, NOTHING, OTHER, SECOND, make_references
from xpsr_cli.training.train import preview, run

TINY = (
    "data.crop_px=32",
    "data.batch_size=2",
    "data.held_out_photos=1",
    "data.held_out_ids=[]",
    "model.window=4",
    "model.activator_steps=2",
    "optimizer.steps=4",
    "optimizer.warmup_steps=2",
    "output.log_steps=1",
    "output.save_steps=2",
    "output.validate_steps=0",
)


def recipe_of(*changes: str) -> Recipe:
    return load_recipe("xpsr-mini-cassr", [*TINY, *changes])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"), 4, 64)


@pytest.fixture
def model(tiny_model: Path) -> Components:
    return load_components(tiny_model)


def batch_of(model: Components, kinds: list[int], side: int = 32) -> dict[str, torch.Tensor]:
    count = len(kinds)
    pixels = torch.rand(3, count, 3, side, side) * 2 - 1
    cells = side // model.vae.config.block_size
    return {
        "target_pm1": pixels[0],
        "enlarged_pm1": pixels[1],
        "degraded_pm1": pixels[2],
        "reference_kind": torch.tensor(kinds),
        "high": torch.zeros(count, 77, dtype=torch.long),
        "low": torch.zeros(count, 77, dtype=torch.long),
        "noise": torch.randn(count, model.vae.config.latent_channels, cells, cells),
        "timesteps": torch.full((count,), 999),
    }


def test_the_new_attention_alone_is_trained(model: Components) -> None:
    recipe = recipe_of()
    reading = with_reference(model, recipe.model, seed=0)
    networks = ReferenceNetworks(reading).train()
    assert networks.trained()
    assert all(".reference." in name and name.startswith("unet.") for name in networks.trained())
    assert {name for name, part in networks.parts().items() if part.training} == {"unet"}
    batch = batch_of(model, [FIRST, SECOND, OTHER, DEGRADED, NOTHING])
    objective = ReferenceObjective(networks, model.scheduler_config, recipe)
    objective(batch)["total"].backward()
    assert all(p.grad is None for name, p in networks.named_parameters() if ".reference." not in name)
    assert any(p.grad is not None and bool(p.grad.any()) for p in networks.trained().values())


def test_untrained_the_loss_is_that_of_the_model_whatever_the_reference(model: Components) -> None:
    recipe = recipe_of()
    networks = ReferenceNetworks(with_reference(model, recipe.model, seed=0))
    objective = ReferenceObjective(networks, model.scheduler_config, recipe)
    batch = batch_of(model, [FIRST, OTHER])
    other = {**batch, "reference_kind": torch.tensor([NOTHING, DEGRADED])}
    assert torch.equal(objective(batch)["total"], objective(other)["total"])


def test_every_kind_of_reference_is_made_as_it_says(model: Components) -> None:
    batch = batch_of(model, [FIRST, SECOND, OTHER, DEGRADED, FIRST])
    seen = []

    def activator(value: float):
        def activate(chosen):
            seen.append(len(chosen["enlarged_pm1"]))
            return torch.full_like(chosen["enlarged_pm1"], value)

        return activate

    made = make_references(batch, [activator(0.25), activator(0.75)])
    degraded = (batch["degraded_pm1"] + 1) / 2
    assert [float(m) for m in made[[0, 1, 4]].amax(dim=(1, 2, 3))] == [0.25, 0.75, 0.25]
    torch.testing.assert_close(made[2], degraded[3])  # the next sample's
    torch.testing.assert_close(made[3], degraded[3])
    assert seen == [3, 1]


@pytest.mark.parametrize("names", [["xpsr", "dfc"], ["dfc", "bicubic"]])
def test_activators_make_pictures_of_the_same_size_and_twice_the_same(model: Components, names: list[str]) -> None:
    recipe = recipe_of(f"model.activators={names}")
    networks = ReferenceNetworks(with_reference(model, recipe.model, seed=0))
    objective = ReferenceObjective(networks, model.scheduler_config, recipe)
    batch = batch_of(model, [FIRST] * 2)
    batch["prompts"] = torch.randn(2, 2, 77, model.text_encoder.config.hidden_size)
    for activate in objective.activators:
        one, again = activate(batch), activate(batch)
        assert one.shape == batch["enlarged_pm1"].shape
        assert torch.equal(one, again)
        assert torch.equal(one.clamp(0, 1), one)
        assert float(one.std()) > 0
        assert not one.requires_grad


def test_kinds_come_as_often_as_the_recipe_says(photos: Path) -> None:
    from xpsr_cli.training.dataset import TrainingPairs, read_source
    from xpsr_cli.training.references import ReferencePairs

    recipe = recipe_of()
    pairs = TrainingPairs(read_source([photos], recipe).photos, recipe, prompt_suffix="", negative_low_prompt="")
    items = [ReferencePairs(pairs, recipe.model)[index] for index in range(60)]
    counts = Counter(REFERENCES[int(item["reference_kind"])] for item in items)
    assert counts["first"] > counts["second"] > counts["none"]
    for item in items:
        degraded = int(item["reference_kind"]) == DEGRADED
        assert torch.equal(item["degraded_pm1"], item["enlarged_pm1"]) != degraded
        assert not torch.equal(item["degraded_pm1"], item["target_pm1"])
    again = ReferencePairs(pairs, recipe.model)[7]
    assert all(torch.equal(again[key], items[7][key]) for key in ("degraded_pm1", "reference_kind"))


@pytest.mark.parametrize("form", ["separate", "tokens", "fusion"])
def test_a_run_leaves_an_add_on_that_the_base_can_read(
    photos: Path, tiny_model: Path, tmp_path: Path, model: Components, form: str
) -> None:
    changes = [] if form == "separate" else [f"model.form={form}", "model.levels=[2]", "model.window=0"]
    assert run(recipe_of(*changes), photos, tmp_path, init_from=tiny_model, device="cpu")
    loaded = load_reference(model, tmp_path / "model")
    assert loaded.reference is not None
    assert (loaded.reference.name, loaded.reference.activator) == ("xpsr-mini-cassr", "dfc")
    for part in ("unet", "controlnet"):
        before, after = named_weights(getattr(model, part)), named_weights(getattr(loaded, part))
        assert all(torch.equal(value, after[key]) for key, value in before.items())
    new = {**named_weights(loaded.unet), **named_weights(loaded.controlnet)}
    if form == "separate":
        assert all(bool(new[key].any()) for key in new if key.endswith("proj_out.weight") and "reference_" in key)
    assert "CasSR" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_an_add_on_is_no_model_to_start_from_and_its_base_is_named(
    photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    assert run(recipe_of("optimizer.steps=1"), photos, tmp_path / "run", init_from=tiny_model, device="cpu")
    for name in ("xpsr-mini-cassr", "finetune"):
        recipe = load_recipe(name, ["data.crop_px=32", "data.held_out_photos=1", "data.held_out_ids=[]"])
        with refusal(WeightsError, str(tmp_path / "run" / "model"), "belongs to tiny", "--resume"):
            run(recipe, photos, tmp_path / name, init_from=tmp_path / "run" / "model", device="cpu")
        assert not (tmp_path / name).exists()


def test_the_command_trains_and_previews_it(xpsr, photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    command = ["train", "--config", "xpsr-mini-cassr", "--data", photos, "--init-from", tiny_model, *sets(TINY)]
    assert xpsr(*command, "--set", "optimizer.steps=1", "-o", tmp_path / "run", "--quiet").code == 0
    assert (tmp_path / "run" / "model" / "reference_attention" / "config.json").is_file()
    preview(recipe_of(), photos, 3, tmp_path / "sheet.png", init_from=tiny_model)
    assert (tmp_path / "sheet.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("model.activators=['xpsr', 'magic']", "names 'magic'"),
        ("model.activators=['xpsr']", "has 1 entries"),
        ("model.references={first=0.5, none=0.25, luck=0.25}", "names 'luck'"),
        ("model.form=tokens", "model.window"),
        ("loss.degradation_pixel_weight=0.1", "does not heed"),
        ("data.batch_size=1", "batch of one"),
        ("model.activators=['scedit:', 'dfc']", "names 'scedit:'"),
        ("model.activators=['scedit:a', 'scedit:b']", "two skip tuners"),
    ],
)
def test_what_cannot_be_is_refused(change: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_of(change)
    assert told in caught.value.message


def test_levels_that_the_model_does_not_have_are_named(model: Components) -> None:
    with pytest.raises(UsageError, match="has the levels 0 to 2"):
        with_reference(model, recipe_of("model.levels=[3]").model, seed=0)
