"""Numbers that papers report for well-known sets of pictures: as reported, none of them computed by this program.

A protocol is how a table was measured. Numbers of two protocols cannot be compared, nor can either be ranked with what
is computed here: crops, degraded inputs and the weights of metrics differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from xpsr_cli.evaluation.tables import NOTHING, Cell, Table


@dataclass(frozen=True)
class PublishedRow:
    """What one paper says of one method: values in the paper's digits, by the metric keys used here."""

    method: str
    values: dict[str, Decimal]
    source: str
    status: str = "as reported"


@dataclass(frozen=True)
class PublishedTable:
    """Rows that one protocol made comparable with one another."""

    dataset: str
    protocol: str
    about: str
    rows: tuple[PublishedRow, ...]


_HEADINGS = {
    "psnr@xpsr": "PSNR, dB ↑ (xpsr)",
    "ssim@xpsr": "SSIM ↑ (xpsr)",
    "psnr@osediff": "PSNR, dB ↑ (osediff)",
    "ssim@osediff": "SSIM ↑ (osediff)",
    "lpips": "LPIPS ↓",
    "dists": "DISTS ↓",
    "fid": "FID ↓",
    "niqe": "NIQE ↓",
    "musiq": "MUSIQ ↑",
    "maniqa-koniq": "MANIQA (KonIQ) ↑",
    "maniqa-pipal": "MANIQA (PIPAL) ↑",
    "clipiqa": "CLIPIQA ↑",
}
_XPSR_PAPER = "XPSR (Qu et al., ECCV 2024, arXiv 2403.05049), Table 1"
_XPSR_ABOUT = (
    "The protocol of the XPSR paper: centre crops of its own, PSNR and SSIM of luma, LPIPS with AlexNet, MANIQA "
    "with the KonIQ weights. The crops are not public."
)
_XPSR_METHODS = ("BSRGAN", "Real-ESRGAN", "SwinIR", "LDM", "StableSR", "DiffBIR", "PASD", "SeeSR", "XPSR")
# A dash is a number that our copy of the table lacks.
_XPSR_TABLES = {
    "div2k-val": {
        "psnr@xpsr": "24.42 24.30 23.77 21.66 23.26 23.49 23.59 23.56 22.80",
        "fid": "50.99 44.34 44.45 55.04 28.32 34.55 39.74 28.89 33.38",
        "maniqa-koniq": ".3547 .3756 .3411 .3589 .4173 .4598 .4440 .5046 .6080",
        "musiq": "60.18 59.76 57.21 57.46 65.19 65.57 66.58 68.35 69.99",
        "clipiqa": "- .5205 - .5570 .6752 .6731 - .6959 .7816",
    },
    "realsr": {
        "psnr@xpsr": "26.38 25.68 25.88 25.66 24.69 24.94 25.21 25.31 24.19",
        "ssim@xpsr": ".7651 .7614 .7671 .6934 .7090 .6664 .7140 .7284 .6870",
        "lpips": ".2656 .2710 .2614 .3367 .3003 .3485 .2986 .2993 .3517",
        "dists": ".2124 .2060 .2061 .2324 .2134 .2257 - .2224 .2471",
        "fid": "141.25 135.14 132.80 133.34 131.72 127.59 - 126.21 141.95",
        "maniqa-koniq": "- .3736 .3561 .3375 .4167 .4378 - .5370 .6059",
        "musiq": "63.28 60.37 59.28 56.32 65.25 64.32 66.61 69.56 70.23",
    },
    "drealsr": {
        "psnr@xpsr": "28.70 28.61 28.20 27.78 27.87 26.57 27.45 28.13 26.62",
        "ssim@xpsr": ".8028 .8052 .7983 .7152 .7427 .6516 .7539 .7711 .7220",
        "lpips": ".2858 .2819 .2830 .3745 .3333 .4537 .3331 .3142 .3864",
        "dists": ".2144 .2089 .2103 .2417 .2297 .2724 .2322 .2230 .2606",
        "fid": "155.62 147.66 146.38 164.87 148.18 160.67 - 147.00 164.68",
        "maniqa-koniq": "- .3435 .3311 .3342 .3897 .4602 - .5077 .5713",
        "musiq": "57.16 54.27 53.01 51.37 58.72 61.06 63.69 64.75 67.84",
    },
}

_STABLESR_ABOUT = (
    "The protocol of the StableSR test sets (inputs of 128 px, results of 512 px) as OSEDiff's script measures it: "
    "PSNR and SSIM of luma without cropping, LPIPS with AlexNet, MANIQA with the PIPAL weights."
)
_STABLESR_KEYS = ("psnr@osediff", "ssim@osediff", "lpips", "dists", "fid", "niqe", "musiq", "maniqa-pipal", "clipiqa")
"""What the numbers of a row below are."""
_OSEDIFF = "OSEDiff (Wu et al., 2024), Table 1"
_TSDSR_1, _TSDSR_2 = "TSD-SR (Dong et al., 2025), Table 1", "TSD-SR (Dong et al., 2025), Table 2"
_CCSR = "CCSR, table in its repository"
_STABLESR_SETS = ("div2k-val", "drealsr", "realsr")
_STABLESR_ROWS = (
    (
        "StableSR, 200 steps",
        _OSEDIFF,
        "23.26 .5726 .3113 .2048 24.44 4.758 65.92 .6192 .6771",
        "28.03 .7536 .3284 .2269 148.98 6.524 58.51 .5601 .6356",
        "24.70 .7085 .3018 .2288 128.51 5.912 65.78 .6221 .6178",
    ),
    (
        "DiffBIR v1, 50 steps",
        _OSEDIFF,
        "23.64 .5647 .3524 .2128 30.72 4.704 65.81 .6210 .6704",
        "26.71 .6571 .4557 .2748 166.79 6.312 61.07 .5930 .6395",
        "24.75 .6567 .3636 .2312 128.99 5.535 64.98 .6246 .6463",
    ),
    (
        "DiffBIR v2, 50 steps",
        _TSDSR_2,
        "23.13 .5717 .3469 .2108 33.93 4.606 68.54 .6360 .7125",
        "25.93 .6525 .4518 .2761 177.04 6.232 65.66 .6296 .6860",
        "24.24 .6650 .3469 .2300 134.56 5.493 68.35 .6544 .6961",
    ),
    (
        "SeeSR, 50 steps",
        _OSEDIFF,
        "23.68 .6043 .3194 .1968 25.90 4.810 68.67 .6240 .6936",
        "28.17 .7691 .3189 .2315 147.39 6.397 64.93 .6042 .6804",
        "25.18 .7216 .3009 .2223 125.55 5.408 69.77 .6442 .6612",
    ),
    (
        "PASD, 20 steps",
        _OSEDIFF,
        "23.14 .5505 .3571 .2207 29.20 4.362 68.95 .6483 .6788",
        "27.36 .7073 .3760 .2531 156.13 5.547 64.87 .6169 .6808",
        "25.21 .6798 .3380 .2260 124.29 5.414 68.75 .6487 .6620",
    ),
    (
        "SUPIR, 50 steps",
        _TSDSR_2,
        "22.13 .5279 .3919 .2312 31.40 5.677 63.86 .5903 .7146",
        "25.09 .6460 .4243 .2795 169.48 7.392 58.79 .5471 .6749",
        "23.65 .6620 .3541 .2488 130.38 6.110 62.09 .5780 .6707",
    ),
    (
        "ResShift, 15 steps",
        _TSDSR_2,
        "24.71 .6234 .3473 .2253 42.01 6.362 60.63 .5283 .5962",
        "28.69 .7874 .3525 .2541 176.77 7.876 52.40 .4756 .5413",
        "26.39 .7567 .3158 .2432 149.59 6.875 60.22 .5419 .5496",
    ),
    (
        "SinSR, 1 step",
        _OSEDIFF,
        "24.41 .6018 .3240 .2066 35.57 6.016 62.82 .5386 .6471",
        "28.36 .7515 .3665 .2485 170.57 6.991 55.33 .4884 .6383",
        "26.28 .7347 .3188 .2353 135.93 6.287 60.80 .5385 .6122",
    ),
    (
        "AddSR, 4 steps",
        _TSDSR_2,
        "22.16 .5280 .4053 .2360 35.41 5.258 70.99 .6596 .7593",
        "26.72 .7124 .3982 .2711 164.12 7.669 66.33 .6257 .7226",
        "23.33 .6400 .3925 .2626 154.22 5.896 71.49 .6826 .7225",
    ),
    (
        "OSEDiff, 1 step",
        _OSEDIFF,
        "23.72 .6108 .2941 .1976 26.32 4.710 67.97 .6148 .6683",
        "27.92 .7835 .2968 .2165 135.30 6.490 64.65 .5899 .6963",
        "25.15 .7341 .2921 .2128 123.49 5.648 69.09 .6326 .6693",
    ),
    (
        "TSD-SR, 1 step",
        _TSDSR_1,
        "23.02 .5808 .2673 .1821 29.16 4.324 71.69 .6192 .7416",
        "27.77 .7559 .2967 .2136 134.98 5.913 66.62 .5874 .7344",
        "24.81 .7172 .2743 .2104 114.45 5.130 71.19 .6347 .7160",
    ),
    (
        "CCSR, 15 steps",
        _CCSR,
        "24.46 .6113 .3045 .2065 27.01 4.61 62.78 - .5367",
        "28.96 .7710 .2922 .2146 132.73 5.91 58.82 - .5467",
        "26.24 .7365 .2559 .1985 105.55 5.74 63.64 - .5287",
    ),
)


def published_tables(dataset: str | None) -> list[PublishedTable]:
    """What papers report for a set of pictures, a table per protocol; nothing for a set that none of them uses.

    ``dataset`` is the name of a known set, ``None`` for pictures that are of none.
    """
    tables: list[PublishedTable] = []
    if dataset in _XPSR_TABLES:
        columns = {key: text.split() for key, text in _XPSR_TABLES[dataset].items()}
        rows = (
            PublishedRow(method, _numbers({key: texts[index] for key, texts in columns.items()}), _XPSR_PAPER)
            for index, method in enumerate(_XPSR_METHODS)
        )
        tables.append(PublishedTable(dataset, "XPSR paper", _XPSR_ABOUT, tuple(rows)))
    if dataset in _STABLESR_SETS:
        place = _STABLESR_SETS.index(dataset)
        rows = (
            PublishedRow(method, _numbers(dict(zip(_STABLESR_KEYS, texts[place].split(), strict=True))), source)
            for method, source, *texts in _STABLESR_ROWS
        )
        tables.append(PublishedTable(dataset, "StableSR test sets", _STABLESR_ABOUT, tuple(rows)))
    return tables


def as_table(published: PublishedTable) -> Table:
    """A published table as text, with where every row comes from. Nothing in it is marked as the best."""
    keys = [key for key in _HEADINGS if any(key in row.values for row in published.rows)]
    rows = ((row.method, *(str(row.values.get(key, NOTHING)) for key in keys), row.source) for row in published.rows)
    return Table(
        f"{published.dataset} as reported, {published.protocol}",
        ("Method", *(_HEADINGS[key] for key in keys), "Source"),
        tuple(tuple(Cell(text) for text in row) for row in rows),
        (published.about,),
    )


def _numbers(texts: dict[str, str]) -> dict[str, Decimal]:
    return {key: Decimal(text) for key, text in texts.items() if text != "-"}
