"""The test sets of the field by name: how many pictures they have, where they come from, and how folders are laid out.

None of them is fetched: their publishers offer archives behind pages and forms, on terms that each user has to accept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_STABLESR = "https://huggingface.co/datasets/Iceclear/StableSR-TestSets"
_CLASSIC = "https://github.com/XPixelGroup/BasicSR/blob/master/docs/DatasetPreparation.md"
_RESEARCH = "no licence is stated with them, so take them for research only"

HR_FOLDERS = (
    "HR",
    "test_HR",
    "GTmod12",
    "GTmod{scale}",
    "GT",
    "DIV2K_valid_HR",
    "original",
    "image_SRF_{scale}",
)
"""Where large photos lie under a set's folder, in the order they are looked for."""
LR_FOLDERS = (
    "LR_bicubic/X{scale}",
    "LR_bicubic_X{scale}",
    "LRbicX{scale}",
    "LR_X{scale}",
    "LR/X{scale}",
    "test_LR",
    "LR",
    "LQ",
    "DIV2K_valid_LR_bicubic/X{scale}",
    "image_SRF_{scale}",
)
"""Where small photos lie."""


@dataclass(frozen=True)
class KnownSet:
    """A named set: what people call its folder, how many pictures it has, and who has it on which terms.

    ``counts`` are those of the versions in use; ``side_px`` is that of large photos which are all of one size.
    ``protocol`` is the one that tables on the set usually follow; ``reported`` is how many pictures the version has
    that published tables are of.
    """

    name: str
    about: str
    folders: tuple[str, ...]
    counts: tuple[int, ...]
    page: str
    terms: str
    protocol: str
    side_px: int | None = None
    reported: int | None = None

    @property
    def how_to_get(self) -> str:
        """One sentence for someone who does not have it."""
        return (
            f"Get {self.about} from {self.page} ({self.terms}), and name the folder it lies in with --root"
            " or XPSR_DATASETS."
        )


KNOWN_SETS = {
    known.name: known
    for known in (
        KnownSet(
            "realsr",
            "the 100 centre crops of RealSR that StableSR published",
            ("realsr", "RealSRVal_crop128", "StableSR_testsets/RealSRVal_crop128"),
            (100,),
            _STABLESR,
            "the photos are those of RealSR, for research",
            "osediff",
            side_px=512,
            reported=100,
        ),
        KnownSet(
            "drealsr",
            "the 93 centre crops of DRealSR that StableSR published",
            ("drealsr", "DRealSRVal_crop128", "StableSR_testsets/DRealSRVal_crop128"),
            (93,),
            _STABLESR,
            "the photos are those of DRealSR, for research",
            "osediff",
            side_px=512,
            reported=93,
        ),
        KnownSet(
            "div2k-val",
            "the validation photos of DIV2K (100), or StableSR's 3000 degraded crops of them",
            ("div2k-val", "DIV2K", "DIV2K_valid", "DIV2K_V2_val", "StableSR_testsets/DIV2K_V2_val"),
            (100, 3000),
            "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
            "for academic research only",
            "osediff",
            reported=3000,
        ),
        KnownSet("set5", "Set5 (Bevilacqua 2012)", ("set5",), (5,), _CLASSIC, _RESEARCH, "classic"),
        KnownSet("set14", "Set14 (Zeyde 2010)", ("set14",), (14,), _CLASSIC, _RESEARCH, "classic"),
        KnownSet(
            "urban100",
            "Urban100 (Huang 2015)",
            ("urban100",),
            (100,),
            "https://github.com/jbhuang0604/SelfExSR",
            "photos of many people, whose own licences hold",
            "classic",
        ),
        KnownSet(
            "bsd100",
            "the 100 test photos of the Berkeley Segmentation Dataset",
            ("bsd100", "b100", "bsds100"),
            (100,),
            _CLASSIC,
            "for non-commercial research and teaching only",
            "classic",
        ),
    )
}


def places_of(known: KnownSet, root: Path) -> Iterator[Path]:
    """Folders under a root, and the root itself, that may be the set's; the named ones come first."""
    for name in known.folders:
        folder = _subfolder(root, name)
        if folder is not None:
            yield folder
    if root.is_dir():
        yield root


def side_folder(folder: Path, names: tuple[str, ...], scale: int) -> Path | None:
    """The first of ``names`` that exists under a folder, upper and lower case alike."""
    found = (_subfolder(folder, name.format(scale=scale)) for name in names)
    return next((path for path in found if path is not None), None)


def _subfolder(folder: Path, name: str) -> Path | None:
    for part in name.split("/"):
        try:
            entries = sorted(entry for entry in folder.iterdir() if entry.name.casefold() == part.casefold())
        except OSError:
            return None
        folders = [entry for entry in entries if entry.is_dir()]
        if not folders:
            return None
        folder = folders[0]
    return folder
