"""The measures against values worked out by hand and against their known directions; the metrics by name."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFilter

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.metric import Metric, Sample
from xpsr_cli.evaluation.metrics import METRIC_NAMES, METRICS, consistency_psnr, make_metrics, psnr
from xpsr_cli.evaluation.pixel_measures import gmsd_y, gradient_ratio, luma, psnr_y, ssim_y
from xpsr_cli.evaluation.protocols import PROTOCOLS


@pytest.fixture
def photo() -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((96, 96), Image.Resampling.BICUBIC))


def blurred(photo: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(radius)))


def test_luma_is_limited_range() -> None:
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    assert luma(ends).ravel() == pytest.approx([16, 235])


def test_psnr_of_a_known_error() -> None:
    a = np.full((8, 8), 100.0)
    assert psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(a, a) == float("inf")


def test_psnr_y_of_a_grey_step(photo: np.ndarray) -> None:
    low = (photo // 2).astype(np.uint8)
    assert psnr_y(low + 1, low) == pytest.approx(48.1308 + 20 * np.log10(255 / 219), abs=1e-3)


def test_a_perfect_result_scores_perfectly(photo: np.ndarray) -> None:
    assert ssim_y(photo, photo) == pytest.approx(1)
    assert gmsd_y(photo, photo) == pytest.approx(0, abs=1e-12)
    assert gradient_ratio(photo, photo) == pytest.approx(1)


def test_blur_worsens_every_measure_monotonically(photo: np.ndarray) -> None:
    for name, metric in METRICS.items():
        values = [metric(blurred(photo, radius), photo) for radius in (1, 2, 4)]
        order = sorted(values, reverse=name != "gmsd")
        assert values == order, name


def test_consistency_compares_at_the_size_of_the_input(photo: np.ndarray) -> None:
    small = np.asarray(Image.fromarray(photo).resize((24, 24), Image.Resampling.BICUBIC))
    assert consistency_psnr(photo, small) == float("inf")
    assert consistency_psnr(255 - photo, small) < 15


def samples(photo: np.ndarray) -> list[Sample]:
    """The photo blurred, with itself as original and reduced as input; and the photo itself."""
    small = np.asarray(Image.fromarray(photo).resize((24, 24), Image.Resampling.BICUBIC))
    return [Sample("blurred", blurred(photo, 1), photo, small), Sample("itself", photo, photo, small)]


def made(names: list[str], protocols: tuple[str, ...] = ("osediff",), scale: float | None = 4) -> dict[str, Metric]:
    metrics, missing = make_metrics(names, protocols, scale=scale)
    assert missing == []
    return {metric.facts.key: metric for metric in metrics}


def test_there_is_a_psnr_and_an_ssim_for_each_protocol(photo: np.ndarray) -> None:
    metrics = made(["psnr", "ssim", "niqe"], tuple(PROTOCOLS))
    expected = [f"{name}@{protocol}" for name in ("psnr", "ssim") for protocol in PROTOCOLS]
    assert list(metrics) == [*expected, "niqe"]
    pair = samples(photo)
    for name in ("osediff", "xpsr"):
        scores = [pytest.approx(psnr_y(pair[0].result, photo), abs=0.01), pytest.approx(80)]
        assert metrics[f"psnr@{name}"].score(pair) == scores
    assert metrics["psnr@classic"].score(pair)[1] == float("inf")
    crop = slice(4, -4)
    cropped = psnr_y(pair[0].result[crop, crop], photo[crop, crop])
    assert metrics["psnr@classic"].score(pair)[0] == pytest.approx(cropped)
    assert metrics["psnr@rgb"].score(pair)[0] == pytest.approx(psnr(pair[0].result, photo))


def test_every_own_metric_scores_and_says_where_its_numbers_come_from(photo: np.ndarray) -> None:
    metrics = made(["psnr", "ssim", "gmsd", "sharpness", "consistency"])
    for metric in metrics.values():
        worse, best = metric.score(samples(photo))
        assert metric.facts.gain(best, worse) > 0, metric.facts.key
        assert metric.provenance()["package"].startswith("xpsr ")
    assert metrics["psnr@osediff"].provenance()["border cropped"] == "0 pixels"
    assert metrics["consistency"].facts.needs == {"lr"}


def test_what_is_not_there_to_compare_with_gives_no_score(photo: np.ndarray) -> None:
    for metric in made(["psnr", "ssim", "gmsd", "sharpness", "consistency"]).values():
        assert all(math.isnan(score) for score in metric.score([Sample("alone", photo)])), metric.facts.key


def test_an_original_of_another_size_is_named(photo: np.ndarray) -> None:
    metric = made(["psnr"])["psnr@osediff"]
    with pytest.raises(PhotoError, match="a.png is 96 x 80 pixels, its original 96 x 96"):
        metric.score([Sample("a.png", photo[:80], photo)])


def test_classic_without_a_scale_is_missing_and_the_rest_is_there() -> None:
    metrics, missing = make_metrics(["psnr"], ["classic", "rgb"], scale=None)
    assert [metric.facts.key for metric in metrics] == ["psnr@rgb"]
    assert [lack.name for lack in missing] == ["psnr@classic"]
    assert "scale" in missing[0].reason


def test_groups_of_names() -> None:
    def names(group: str, protocol: str) -> list[str]:
        metrics, missing = make_metrics([group], [protocol], scale=4)
        return sorted({metric.facts.name for metric in metrics} | {lack.name for lack in missing})

    assert names("all", "rgb") == sorted(METRIC_NAMES)
    assert set(METRIC_NAMES) - set(names("default", "osediff")) == {"maniqa-koniq"}
    assert set(METRIC_NAMES) - set(names("default", "xpsr")) == {"maniqa-pipal"}
    metrics, _ = make_metrics(["niqe", "psnr", "niqe"], ["osediff", "osediff"], scale=4)
    assert [metric.facts.key for metric in metrics] == ["niqe", "psnr@osediff"]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'pnsr'") as refusal:
        make_metrics(["pnsr"], ["osediff"], scale=4)
    assert "psnr, ssim" in refusal.value.hint
    with pytest.raises(UsageError, match="'y'"):
        make_metrics(["psnr"], ["y"], scale=4)


def test_seams_are_seen_where_windows_meet() -> None:
    """At 1024 pixels the usual windows begin at 0, 384 and 512, and end at 512, 896 and 1024."""
    rng = np.random.default_rng(4)
    clean = rng.integers(100, 140, (1024, 1024, 3)).astype(np.uint8)
    seamed = clean.copy()
    seamed[512:] += 30
    metric = made(["seams"])["seams"]
    pictures = {"clean": clean, "seamed": seamed, "one window": clean[:512, :512]}
    without, with_seam, single = metric.score([Sample(name, picture) for name, picture in pictures.items()])
    assert without == pytest.approx(1, abs=0.02)
    assert with_seam > 1.2
    assert math.isnan(single)


def test_a_flat_original_has_no_sharpness() -> None:
    flat = np.full((32, 32, 3), 9, np.uint8)
    assert math.isnan(made(["sharpness"])["sharpness"].score([Sample("flat", flat, flat)])[0])


def test_threads_may_share_a_metric(photo: np.ndarray) -> None:
    large = np.tile(photo, (3, 3, 1))
    turned = [Sample(str(n), np.rot90(large, n).copy(), large) for n in range(4)] * 4
    for metric in made(["psnr", "ssim", "gmsd", "niqe"]).values():
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda sample, metric=metric: metric.score([sample])[0], turned))
        assert together == metric.score(turned)
