"""Published numbers: the right ones in the right places, marked as reported."""

from decimal import Decimal

import pytest

from xpsr_cli.evaluation.published import as_table, published_tables

SETS = ("realsr", "drealsr", "div2k-val")
PLAUSIBLE = {  # a number in a wrong column would lie outside
    "psnr@xpsr": (21, 30),
    "ssim@xpsr": (0.64, 0.81),
    "psnr@osediff": (21, 30),
    "ssim@osediff": (0.52, 0.81),
    "lpips": (0.25, 0.46),
    "dists": (0.18, 0.28),
    "fid": (24, 178),
    "niqe": (4, 8),
    "musiq": (51, 72),
    "maniqa-koniq": (0.33, 0.61),
    "maniqa-pipal": (0.47, 0.69),
    "clipiqa": (0.5, 0.79),
}


def rows_of(dataset, protocol):
    (table,) = [table for table in published_tables(dataset) if table.protocol == protocol]
    return {row.method: row for row in table.rows}


@pytest.mark.parametrize("dataset", SETS)
def test_every_row_says_where_it_comes_from_and_that_it_is_reported(dataset):
    tables = published_tables(dataset)
    assert [table.protocol for table in tables] == ["XPSR paper", "StableSR test sets"]
    for table in tables:
        assert table.dataset == dataset
        assert "protocol" in table.about
        for row in table.rows:
            assert row.status == "as reported"
            assert "Table" in row.source or "table" in row.source
            for key, value in row.values.items():
                low, high = PLAUSIBLE[key]
                assert low <= value <= high, (row.method, key)


def test_some_numbers_of_the_papers():
    paper = rows_of("realsr", "XPSR paper")
    assert paper["XPSR"].values["musiq"] == Decimal("70.23")
    assert paper["XPSR"].values["psnr@xpsr"] == Decimal("24.19")
    assert paper["SeeSR"].values["maniqa-koniq"] == Decimal(".5370")
    assert rows_of("div2k-val", "XPSR paper")["XPSR"].values["clipiqa"] == Decimal(".7816")
    assert rows_of("drealsr", "XPSR paper")["BSRGAN"].values["psnr@xpsr"] == Decimal("28.70")
    tests = rows_of("realsr", "StableSR test sets")
    assert tests["OSEDiff, 1 step"].values["psnr@osediff"] == Decimal("25.15")
    assert tests["SeeSR, 50 steps"].values["maniqa-pipal"] == Decimal(".6442")
    assert rows_of("drealsr", "StableSR test sets")["TSD-SR, 1 step"].values["fid"] == Decimal("134.98")


def test_numbers_that_are_not_known_are_absent():
    assert "maniqa-koniq" not in rows_of("realsr", "XPSR paper")["BSRGAN"].values
    assert "maniqa-pipal" not in rows_of("realsr", "StableSR test sets")["CCSR, 15 steps"].values
    assert "niqe" not in rows_of("realsr", "XPSR paper")["XPSR"].values


def test_a_set_that_no_paper_uses_has_no_tables():
    assert published_tables("set5") == []
    assert published_tables(None) == []


def test_as_a_table_digits_are_those_of_the_paper_and_nothing_is_best():
    table = as_table(published_tables("realsr")[1])
    texts = {row[0].text: [cell.text for cell in row] for row in table.rows}
    niqe = table.columns.index("NIQE ↓")
    assert texts["CCSR, 15 steps"][niqe] == "5.74"
    assert texts["TSD-SR, 1 step"][niqe] == "5.130"
    assert texts["CCSR, 15 steps"][table.columns.index("MANIQA (PIPAL) ↑")] == "–"
    assert texts["OSEDiff, 1 step"][-1] == "OSEDiff (Wu et al., 2024), Table 1"
    assert table.title == "realsr as reported, StableSR test sets"
    assert not any(cell.best for row in table.rows for cell in row)
    assert all(len(row) == len(table.columns) for row in table.rows)
