"""A web page of answers to one small picture: by prompt, sorted, and any two of them laid over each other.

The page is one file that needs no network. What lays pictures over each other, and holds them, is a piece of page that
the caller gives: this module knows only that its panes are the given picture and then the answers, in their order.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from xpsr_cli import __version__
from xpsr_cli.exploring.records import Agreement

_DB_SHOWN_AT_MOST = 999
_PROMPTS_SHOWN = 5


@dataclass(frozen=True)
class Card:
    """One answer on the page. ``reduced_png`` is the bytes of a PNG file: what the answer is reduced to."""

    prompt: int
    seed: int
    file: str
    agreement: Agreement
    reduced_png: bytes


@dataclass(frozen=True)
class Slider:
    """What lays the pictures over each other: a figure, and the style and script that it needs in the page's head.

    Its pictures are ``.xpsr-pane img``, and two ``select`` in it, titled "Left picture" and "Right picture", choose
    among them by number.
    """

    figure: str
    assets: str


def gallery_page(
    title: str, fact: str, prompts: Mapping[str, str], cards: Sequence[Card], given_png: bytes, slider: Slider
) -> str:
    """The page, as HTML.

    ``fact`` is a line under the title; ``prompts`` are the prompts in their order, with what is said of the answers to
    each; ``given_png`` is the small picture as a PNG file. All texts are plain.
    """
    folder = files("xpsr_cli.exploring") / "assets"
    page, style, script = ((folder / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    options = "".join(f'<option value="{n}">{n}: {escape(text)}</option>' for n, text in enumerate(prompts, 1))
    return Template(page).substitute(
        title=escape(title),
        style=style,
        script=script,
        assets=slider.assets,
        figure=slider.figure,
        fact=escape(fact),
        state="open" if len(prompts) <= _PROMPTS_SHOWN else "",
        prompts="".join(f"<li>{escape(text)} <span>{escape(said)}</span></li>\n" for text, said in prompts.items()),
        options=options,
        given=_given(given_png),
        cards="\n".join(_card(pane, card, list(prompts)[card.prompt - 1]) for pane, card in enumerate(cards, 1)),
        version=escape(__version__),
    )


def db_in_words(value: float) -> str:
    """A PSNR for people."""
    return f"{value:.1f} dB" if math.isfinite(value) else "no difference"


def _given(png: bytes) -> str:
    words = '<span class="name">given</span>'
    return f'<button type="button" class="card" data-pane="0"><img alt="given" src="{_uri(png)}">{words}</button>'


def _card(pane: int, card: Card, prompt: str) -> str:
    agreement = card.agreement
    numbers = {
        "pane": pane,
        "prompt": card.prompt,
        "seed": card.seed,
        "agreement": -min(agreement.final_db, _DB_SHOWN_AT_MOST),
        "model": -min(agreement.raw_db, _DB_SHOWN_AT_MOST),
        "repair": agreement.repair_rms,
    }
    data = " ".join(f'data-{name}="{value:g}"' for name, value in numbers.items())
    name = f"prompt {card.prompt}, seed {card.seed}"
    told = (
        f"{db_in_words(agreement.final_db)} to the given picture; {db_in_words(agreement.raw_db)} before a repair of "
        f"{agreement.repair_rms:.4f}"
    )
    return (
        f'<button type="button" class="card answer" {data} title="{escape(prompt)}">'
        f'<img alt="{escape(name)}"><span class="proof"><img class="reduced" alt="its reduction" '
        f'src="{_uri(card.reduced_png)}"><span><span class="name">{escape(name)}</span><br>'
        f'<span class="told">{escape(told)}</span></span></span></button>'
    )


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
