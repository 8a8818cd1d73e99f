"""The card of a trained model: what it came from and how it did, as ``README.md`` in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xpsr_cli.photos.whole_file import whole_or_absent
from xpsr_cli.training.listeners import Row, main_terms, read_metrics
from xpsr_cli.training.recipe import PriorModelRecipe, Recipe, ReferenceRecipe, ScorerRecipe, TunerRecipe
from xpsr_cli.training.validation import COMPARED, title_of

_MEASURES = {"psnr": "PSNR (luma, dB)", "ssim": "SSIM", "gmsd": "GMSD", "sharpness": "sharpness, 1 is the original's"}
_UPSCALER = (
    "An XPSR model for enlarging photos, trained with `xpsr train`.",
    "",
    "    xpsr upscale photo.jpg -o large.png --model FOLDER",
)
_PRIOR = (
    "An image model that draws from words, trained with `xpsr train`.",
    "",
    '    xpsr explore small.png --prompt "..." --prior FOLDER',
)
_READER = (
    "An add-on that lets an XPSR model read a second picture of the photo, which an activator made of it (the idea of",
    "CasSR, of which only the abstract is public), trained with `xpsr train`.",
)
_TUNER = (
    "An activator: a skip tuner (SCEdit) that steers the UNet of an XPSR model, so that it makes a picture of a photo",
    "which an add-on then reads. Trained with `xpsr train`.",
)


def write_model_card(folder: Path, recipe: Recipe, metrics: Path, facts: Mapping[str, str]) -> None:
    """Write ``README.md``. It says nothing of when or where, so that the same run writes the same card.

    Args:
        folder: the model's.
        recipe: what was trained.
        metrics: the run's ``metrics.jsonl``; its last losses and last validation are told.
        facts: further lines, by what they are about.

    Raises:
        PhotoError: it cannot be written; nothing of it is left.
    """
    rows = list(read_metrics(metrics))
    losses = next((row for row in reversed(rows) if "losses" in row), None)
    validation = next((row for row in reversed(rows) if "validation" in row), None)
    lines = [
        f"# {recipe.name}",
        "",
        *_about(recipe),
        "",
        "| | |",
        "|---|---|",
        f"| recipe | {_cell(recipe.name)} |",
        *(f"| {about} | {_cell(fact)} |" for about, fact in facts.items()),
        *_losses(losses),
        "",
        *_validation(validation, title_of(recipe)),
    ]
    with whole_or_absent(folder / "README.md") as file:
        file.write(("\n".join(lines).rstrip() + "\n").encode())


def _about(recipe: Recipe) -> tuple[str, ...]:
    if isinstance(recipe.model, PriorModelRecipe | ScorerRecipe):
        return _PRIOR
    if isinstance(recipe.model, TunerRecipe):
        return _TUNER
    return _READER if isinstance(recipe.model, ReferenceRecipe) else _UPSCALER


def _cell(text: str) -> str:
    """The text as it can stand in a table: names of files may hold anything."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text).replace("|", "\\|")


def _losses(row: Row | None) -> list[str]:
    if row is None:
        return []
    terms = ", ".join(f"{name} {value:.4g}" for name, value in main_terms(row["losses"]).items() if value is not None)
    return [f"| loss at step {row['step']} | {terms} |"]


def _validation(row: Row | None, title: str) -> list[str]:
    if row is None:
        return []
    values = row["validation"]
    others = {who: values[who] for who in COMPARED if who in values}
    columns = {title: values, **{COMPARED[who]: theirs for who, theirs in others.items()}}
    lines = [
        f"Photos that it was not trained on, made small in the same way and enlarged again, at step {row['step']}:",
        "",
        f"| measure | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
    ]
    for name, measure in _MEASURES.items():
        numbers = [column.get(name) for column in columns.values()]
        lines.append(f"| {measure} | " + " | ".join("" if n is None else f"{n:.4g}" for n in numbers) + " |")
    return lines
