"""The files of a report: strict JSON in one order, a table for other programs, and nothing half written."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_evaluations import FID, LPIPS, PSNR, evaluation_of, with_files

from xpsr_cli.errors import PhotoError, UsageError
from xpsr_cli.evaluation.report import per_image_csv, report_data, write_report
from xpsr_cli.evaluation.scores import Evaluation, Failure, Missing, Pair
from xpsr_cli.evaluation.statistics import summarise
from xpsr_cli.integrity import hash_file

SCORES = {
    ("old", PSNR): [20.0, 21.0, math.inf, None],
    ("old", LPIPS): [0.5, 0.4, 0.3, 0.2],
    ("new", PSNR): [[20.5, 21.5, 22.5, 23.5], [20.7, 21.7, 22.9, 23.1]],
    ("new", LPIPS): [[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]],
}


def evaluation(**more) -> Evaluation:
    return evaluation_of(SCORES, metrics=(PSNR, LPIPS, FID), **more)


def read_strictly(text: str):
    def refuse(token):
        raise AssertionError(f"{token} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_three_files_are_written(tmp_path: Path):
    paths = write_report(evaluation(), tmp_path / "new" / "folder")
    assert sorted(path.name for path in paths) == ["per_image.csv", "report.html", "report.json"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(path.name for path in paths)
    assert all(path.stat().st_size > 0 for path in paths)


def test_the_json_holds_what_is_needed_to_believe_it(tmp_path: Path):
    pictures = {}
    for name in ("hr", "lr", "result"):
        pictures[name] = tmp_path / f"{name}.png"
        Image.fromarray(np.full((16, 16, 3), len(pictures), np.uint8)).save(pictures[name])
    made = evaluation_of({("m", PSNR): [20.0]}, metrics=(PSNR,), pictures=["a"])
    made = with_files(made, [Pair("a", pictures["lr"], pictures["hr"])], {("m", 0, "a"): pictures["result"]})
    data = report_data(made, summarise(made))
    assert data["dataset"]["pictures"] == [
        {
            "name": "a",
            "lr": {"file": "lr.png", "sha256": hash_file(pictures["lr"])},
            "hr": {"file": "hr.png", "sha256": hash_file(pictures["hr"])},
        }
    ]
    assert data["results"][0]["sha256"] == hash_file(pictures["result"])
    pictures["result"].unlink()
    assert report_data(made, summarise(made))["results"][0]["sha256"] is None


def test_the_json_is_strict_whatever_the_evaluation_holds(tmp_path: Path):
    provenance = {
        "command": ("xpsr", "eval"),
        "versions": {"numpy": np.float64("nan"), "gain": math.inf},
        "folder": tmp_path,
        "kinds": {"b", "a"},
        "count": np.int64(3),
    }
    write_report(
        evaluation(
            provenance=provenance,
            whole={("old", 0, "fid"): math.nan},
            missing=(Missing("dists", "not here", "xpsr weights pull dists"),),
            failures=(Failure("old", 0, "picture_003", "it is black"),),
        ),
        tmp_path / "out",
    )
    data = read_strictly((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert data["provenance"]["versions"] == {"numpy": None, "gain": None}
    assert data["provenance"]["kinds"] == ["a", "b"]
    assert data["provenance"]["count"] == 3
    assert data["missing"][0]["command"] == "xpsr weights pull dists"
    assert data["failures"][0]["picture"] == "picture_003"
    summaries = {(summary["method"], summary["key"]): summary for summary in data["summaries"]}
    assert summaries["old", PSNR.key]["infinite"] == 1
    assert summaries["old", PSNR.key]["mean"] == 20.5
    assert summaries["old", "fid"]["mean"] is None
    assert summaries["new", PSNR.key]["seed_spread"] > 0
    assert data["metrics"][0]["better"] == "higher"
    assert data["metrics"][0]["needs"] == ["hr"]
    assert data["statistics"]["resamples"] == 10_000
    assert {(row["method"], row["other"]) for row in data["comparisons"]} == {("old", "new"), ("new", "old")}


def test_the_same_scores_give_the_same_files_in_whatever_order_they_came(tmp_path: Path):
    one = evaluation()
    turned = Evaluation(
        one.set, one.methods, one.seeds, one.metrics, dict(reversed(one.scores.items())), provenance=one.provenance
    )
    write_report(one, tmp_path / "one")
    write_report(turned, tmp_path / "two")
    for name in ("report.json", "per_image.csv", "report.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_published_rows_stand_apart_from_what_was_computed():
    data = report_data(evaluation(dataset="realsr"), summarise(evaluation(dataset="realsr")))
    assert {method["name"] for method in data["methods"]} == {"old", "new"}
    assert [table["protocol"] for table in data["as_reported"]] == ["XPSR paper", "StableSR test sets"]
    assert data["as_reported"][0]["rows"][-1]["values"]["musiq"] == 70.23
    assert report_data(evaluation(), summarise(evaluation()))["as_reported"] == []


def test_the_table_has_every_score_with_all_its_digits():
    third = 1 / 3
    made = evaluation_of(
        {("a", PSNR): [[20.0, math.inf], [third, None]], ("b", LPIPS): [0.5, math.nan]},
        metrics=(PSNR, LPIPS, FID),
        pictures=['x, "1"', "Bär"],
    )
    text = per_image_csv(made)
    assert text[0] == "\ufeff"
    rows = list(csv.DictReader(io.StringIO(text[1:], newline="")))
    assert list(rows[0]) == ["method", "seed", "picture", "psnr@osediff", "lpips"]
    assert [tuple(row.values()) for row in rows] == [
        ("a", "0", 'x, "1"', "20.0", ""),
        ("a", "0", "Bär", "inf", ""),
        ("a", "1", 'x, "1"', repr(third), ""),
        ("a", "1", "Bär", "", ""),
        ("b", "0", 'x, "1"', "", "0.5"),
        ("b", "0", "Bär", "", ""),
    ]
    assert float(rows[2]["psnr@osediff"]) == third


def test_names_that_are_no_unicode_do_no_harm(tmp_path: Path):
    made = evaluation_of({("m", PSNR): [20.0, 21.0]}, pictures=["a\udcff", "b"])
    for path in write_report(made, tmp_path):
        assert "a\\udcff" in path.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_is_an_error_and_the_old_one_stays(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PhotoError, match="file"):
        write_report(evaluation(), tmp_path / "file")
    write_report(evaluation(), tmp_path / "out")
    before = (tmp_path / "out" / "report.json").read_bytes()
    with pytest.raises(UsageError):
        write_report(evaluation(), tmp_path / "out", reference="nobody")
    assert (tmp_path / "out" / "report.json").read_bytes() == before
    assert len(list((tmp_path / "out").iterdir())) == 3
