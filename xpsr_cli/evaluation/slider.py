"""Pictures laid over each other with a line to drag between them, as a piece of a web page that needs no network.

The pictures stand beside each other in plain HTML; the script of :func:`page_assets` makes them comparable: a
before/after slider, side by side, or their difference, with one zoom for all. It is plain JavaScript, in
``assets/slider.js``.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from xpsr_cli.evaluation.page_pictures import PagePicture, page_picture
from xpsr_cli.photos.photo import Pixels


def slider_html(
    pictures: Sequence[tuple[str, PagePicture | bytes | Path | Pixels]], *, title: str = "", note: str = ""
) -> str:
    """Two or more pictures of one subject, each with its name, as a ``<figure>``; a page may have many of them.

    A picture is a photo file of any kind that can be read, the bytes of a PNG, JPEG or WebP file, or (H, W, 3) uint8
    in sRGB. The first two are the ones seen at first; pictures of other sizes are shown at the extent of the largest.
    ``title`` and ``note`` are plain text above them. The page also needs :func:`page_assets`, once.
    ``ValueError`` for fewer than two pictures, :class:`~xpsr_cli.errors.PhotoError` for a file that cannot be read.
    """
    if len(pictures) < 2:
        raise ValueError(f"{len(pictures)} pictures cannot be compared")
    panes = "\n".join(_pane(name, page_picture(picture)) for name, picture in pictures)
    caption = "".join(
        f'<span class="xpsr-{kind}">{escape(text)}</span>' for kind, text in (("title", title), ("note", note)) if text
    )
    caption = f"<figcaption>{caption}</figcaption>\n" if caption else ""
    label = f' aria-label="{escape(title)}"' if title else ""
    return f'<figure class="xpsr-slider"{label}>\n{caption}<div class="xpsr-stage">\n{panes}\n</div>\n</figure>'


def page_assets() -> str:
    """The style and the script of all sliders of a page, best put into its ``<head>``."""
    folder = files("xpsr_cli.evaluation") / "assets"
    style, script = ((folder / f"slider.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return f"<style>\n{style}</style>\n<script>\n{script}</script>"


def _pane(name: str, picture: PagePicture) -> str:
    size = f'width="{picture.width}" height="{picture.height}"'
    image = f'<img alt="{escape(name)}" {size} loading="lazy" decoding="async" draggable="false" src="{picture.uri}">'
    return f'<div class="xpsr-pane">{image}<span class="xpsr-name">{escape(name)}</span></div>'
