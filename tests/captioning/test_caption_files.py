"""Captions in files: written whole or not at all, read back the same, found for the right photo."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from xpsr_cli.captioning.caption_files import (
    HIGH_FOLDER,
    LOW_FOLDER,
    CaptionRow,
    check_captions_file,
    read_captions,
    write_captions,
    write_text_pairs,
)
from xpsr_cli.captioning.captions import Box, Caption, RegionText
from xpsr_cli.errors import ExitCode, PhotoError, UsageError

NOWHERE = "0" * 64


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def a_row(photo, high="A house.", low="sharp", regions=()):
    return CaptionRow(photo, digest(photo), Caption(high, low, "tiny", tuple(regions)))


ROWS = [
    a_row("photos/a.png", "A house — «old», 房子.", 'blurred, "noise"'),
    a_row("photos/b.jpg", "", "no noise"),
    a_row(
        "photos/c.webp",
        regions=[RegionText(Box(0, 0, 10, 20), "a dog"), RegionText(Box(10, 0, 10, 20), "a tree")],
    ),
]


@pytest.fixture(params=[".jsonl", ".parquet"])
def extension(request):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return request.param


def write_json(path, values):
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def refusal(path):
    """The sentence for a file that cannot be read as captions: it names the file."""
    with pytest.raises(UsageError) as caught:
        read_captions(path)
    assert caught.value.exit_code == ExitCode.USAGE == 2
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith(".")
    assert caught.value.hint
    return caught.value.message


def test_what_is_written_is_read_again(tmp_path, extension):
    path = tmp_path / "new" / f"captions{extension.upper()}"
    write_captions(iter(ROWS), path)
    assert read_captions(path).rows == ROWS
    assert read_captions(path).path == path
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_no_rows_make_an_empty_file(tmp_path, extension):
    path = tmp_path / f"captions{extension}"
    write_captions([], path)
    assert read_captions(path).rows == []


def test_json_lines_have_the_columns_others_expect(tmp_path):
    write_captions(ROWS, tmp_path / "captions.jsonl")
    lines = (tmp_path / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert json.loads(lines[2]) == {
        "photo": "photos/c.webp",
        "sha256": digest("photos/c.webp"),
        "high": "A house.",
        "low": "sharp",
        "captioner": "tiny",
        "regions": [
            {"box": {"left": 0, "top": 0, "width": 10, "height": 20}, "high": "a dog"},
            {"box": {"left": 10, "top": 0, "width": 10, "height": 20}, "high": "a tree"},
        ],
    }
    assert "房子" in lines[0]


def test_parquet_has_the_columns_others_expect(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_captions(ROWS[1:2], tmp_path / "captions.parquet")
    table = parquet.read_table(tmp_path / "captions.parquet")
    assert table.schema.names == ["photo", "sha256", "high", "low", "captioner", "regions"]
    assert table.to_pylist() == [ROWS[1].to_dict()]


def test_names_that_are_no_unicode_are_written_too(tmp_path, extension):
    row = CaptionRow("photos/\udce9t\udce9.png", NOWHERE, Caption("A house.", "", "tiny"))
    path = tmp_path / f"captions{extension}"
    write_captions([row], path)
    assert read_captions(path).of(Path("elsewhere.png"), NOWHERE) == row.caption
    if extension == ".jsonl":
        assert read_captions(path).rows == [row]


def failing_rows():
    yield ROWS[0]
    raise ValueError("the captioner failed")


def test_a_file_is_whole_or_as_it_was(tmp_path, extension):
    path = tmp_path / f"captions{extension}"
    write_captions(ROWS[:1], path)
    with pytest.raises(ValueError, match="the captioner failed"):
        write_captions(failing_rows(), path)
    assert read_captions(path).rows == ROWS[:1]
    with pytest.raises(PhotoError, match="could not be written"):
        write_captions([CaptionRow("a.png", NOWHERE, Caption(object(), "", "tiny"))], path)
    assert read_captions(path).rows == ROWS[:1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["captions.csv", "captions", "captions.json", "captions.jsonl.gz"])
def test_other_extensions_are_refused_before_any_work(tmp_path, name):
    with pytest.raises(UsageError, match="no file for captions"):
        check_captions_file(tmp_path / name)
    with pytest.raises(UsageError, match="no file for captions"):
        write_captions(ROWS, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "captions.jsonl").mkdir()
    with pytest.raises(UsageError, match="no file for captions"):
        check_captions_file(tmp_path / "captions.jsonl")


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(PhotoError, match="no folder to write to"):
        write_captions(ROWS, tmp_path / "taken" / "captions.jsonl")
    with pytest.raises(PhotoError, match="no folder to write to"):
        write_text_pairs(ROWS, tmp_path / "taken")


WITHOUT_PYARROW = """
import sys
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pyarrow", "numpy", "PIL", "torch"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
from xpsr_cli.captioning import caption_files
from xpsr_cli.errors import MissingExtraError

path = Path(sys.argv[1])
for function in (
    lambda: caption_files.check_captions_file(path / "new.parquet"),
    lambda: caption_files.write_captions([], path / "new.parquet"),
    lambda: caption_files.read_captions(path / "old.parquet"),
):
    try:
        function()
    except MissingExtraError as error:
        print(int(error.exit_code), error.message, error.hint)
caption_files.write_captions([], path / "new.jsonl")
"""


def test_without_pyarrow_all_but_parquet_works(tmp_path):
    (tmp_path / "old.parquet").write_bytes(b"PAR1")
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYARROW, str(tmp_path)], capture_output=True, text=True, check=True
    )
    sentence = "6 Parquet files need pyarrow, which is not installed. Run: pip install 'xpsr[parquet]'"
    assert ran.stdout.splitlines() == [sentence] * 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new.jsonl", "old.parquet"]


def test_importing_takes_the_standard_library_only():
    code = """
import sys
import xpsr_cli.captioning.caption_files
loaded = {name.partition(".")[0] for name in sys.modules}
print(loaded & {"numpy", "PIL", "torch", "pyarrow", "scipy", "transformers"})
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_text_pairs_lie_where_the_released_code_looks(tmp_path):
    rows = [*ROWS, CaptionRow("d.v2.png", NOWHERE, Caption("two\nlines", " blanks ", "tiny"))]
    write_text_pairs(rows, tmp_path / "set")
    high, low = tmp_path / "set" / "highlevel_prompt", tmp_path / "set" / "lowlevel_prompt_q"
    names = ["a.txt", "b.txt", "c.txt", "d.v2.txt"]
    assert sorted(file.name for file in high.iterdir()) == sorted(file.name for file in low.iterdir()) == names
    assert (high / "a.txt").read_text(encoding="utf-8") == "A house — «old», 房子.\n"
    assert (low / "a.txt").read_text(encoding="utf-8") == 'blurred, "noise"\n'
    assert (high / "b.txt").read_text(encoding="utf-8") == "\n"
    assert (high / "d.v2.txt").read_text(encoding="utf-8") == "two lines\n"
    assert (low / "d.v2.txt").read_text(encoding="utf-8") == "blanks\n"


def test_text_pairs_are_found_by_the_photos_they_were_written_for(tmp_path):
    rows = [a_row("x/a.png", "one"), a_row("y/a.b.png", "two"), a_row("z/a.b.c.jpeg", "three")]
    write_text_pairs(rows, tmp_path)
    captions = read_captions(tmp_path)
    for row in rows:
        found = captions.of(Path(row.photo), row.sha256)
        assert (found.high, found.low, found.captioner) == (row.caption.high, row.caption.low, "person")
    assert captions.of(Path("a.c.png"), NOWHERE) is None


@pytest.mark.parametrize("other", ["y/a.png", "x/a.jpg", "x/A.png"])
def test_two_photos_that_would_share_a_text_file_are_refused(tmp_path, other):
    with pytest.raises(UsageError) as caught:
        write_text_pairs([a_row("x/b.png"), a_row("x/a.png"), a_row(other)], tmp_path / "set")
    assert "x/a.png" in caught.value.message
    assert other in caught.value.message
    assert not (tmp_path / "set").exists()


def test_a_folder_as_the_released_code_reads_it(tmp_path):
    """The first line, left-stripped; a missing text is empty."""
    high, low = tmp_path / HIGH_FOLDER, tmp_path / LOW_FOLDER
    high.mkdir()
    low.mkdir()
    (high / "a.txt").write_text("   A house.  \r\nA second line.\n", encoding="utf-8", newline="")
    (high / "b.txt").write_text("\nonly a second line\n")
    (high / "c.txt").write_text("\ufeffno low", encoding="utf-8")
    (high / "._a.txt").write_bytes(b"\xff\xfe\x00")
    (low / "a.txt").write_text("sharp")
    (low / "d.txt").write_text("no high")
    captions = read_captions(tmp_path)
    texts = {row.photo: (row.caption.high, row.caption.low) for row in captions.rows}
    assert texts == {"a": ("A house.", "sharp"), "b": ("", ""), "c": ("no low", ""), "d": ("", "no high")}
    assert captions.of(Path("anywhere/a.tif"), NOWHERE).high == "A house."


def test_a_folder_without_texts_is_refused(tmp_path):
    assert "holds no captions" in refusal(tmp_path)
    (tmp_path / HIGH_FOLDER).mkdir()
    assert "holds no captions" in refusal(tmp_path)


def test_a_text_that_is_no_utf8_is_named(tmp_path):
    (tmp_path / HIGH_FOLDER).mkdir()
    (tmp_path / HIGH_FOLDER / "a.txt").write_bytes(b"caf\xe9")
    assert str(Path(HIGH_FOLDER) / "a.txt") in refusal(tmp_path)


def test_rows_of_other_programs_may_be_short(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text(
        '\ufeff{"photo": "a.png", "high": "A\\nhouse."}\r\n\r\n'
        f'{{"sha256": "{NOWHERE.upper()}", "low": "sharp", "high": null, "more": 1}}\n',
        encoding="utf-8",
        newline="",
    )
    captions = read_captions(path)
    assert captions.of(Path("x/a.png"), digest("x")) == Caption("A house.", "", "person")
    assert captions.of(Path("x/b.png"), NOWHERE.upper()) == Caption("", "sharp", "person")
    assert captions.of(Path("x/c.png"), digest("x")) is None


def test_json_is_a_list_or_an_object_by_names(tmp_path):
    listed = write_json(tmp_path / "list.json", [row.to_dict() for row in ROWS])
    assert read_captions(listed).rows == ROWS
    named = write_json(tmp_path / "named.json", {"a.png": {"high": "A house.", "low": "sharp"}, "b": {"low": "noise"}})
    assert read_captions(named).of(Path("x/a.png"), NOWHERE) == Caption("A house.", "sharp", "person")
    assert read_captions(named).of(Path("x/b.png"), NOWHERE) == Caption("", "noise", "person")


def test_parquet_of_other_programs(tmp_path):
    """Other columns are not read, missing ones are empty, and nulls count as missing."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(
        {"image": [b"x", b"y"], "photo": ["a.png", "b.png"], "high": ["A house.", None], "low": ["", "n"]}
    )
    parquet.write_table(table, tmp_path / "captions.parquet")
    assert read_captions(tmp_path / "captions.parquet").rows == [
        CaptionRow("a.png", "", Caption("A house.", "", "person")),
        CaptionRow("b.png", "", Caption("", "n", "person")),
    ]
    parquet.write_table(table.drop(["photo"]), tmp_path / "captions.parquet")
    assert "row 1" in refusal(tmp_path / "captions.parquet")
    parquet.write_table(table.select(["image"]), tmp_path / "captions.parquet")
    assert "row 1" in refusal(tmp_path / "captions.parquet")


def test_pictures_in_parquet_are_not_even_read(tmp_path):
    """A column that cannot be read does no harm where no caption is in it."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "captions.parquet"
    table = pyarrow.table({"image": [b"x" * 1000], "photo": ["a.png"], "high": ["A house."]})
    parquet.write_table(table, path, compression="none", use_dictionary=False)
    start = parquet.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 900] = b"\xff" * 900
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"."):
        parquet.read_table(path)
    assert read_captions(path).of(Path("a.png"), NOWHERE).high == "A house."


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1", b"{}"])
def test_a_file_that_is_no_parquet(tmp_path, content):
    pytest.importorskip("pyarrow")
    (tmp_path / "captions.parquet").write_bytes(content)
    assert "no Parquet file" in refusal(tmp_path / "captions.parquet")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("nonsense", "is not JSON"),
        ('{"photo": "a.png", "high": "x", "likes": 1' + "0" * 5000 + "}", "a number of thousands of digits"),
        ('{"photo": "a.png", "high": "x\x1b"}', "Invalid control character at column"),
        ('{"photo": "a.png", "high": "x"} {}', "is not JSON"),
        ("[" * 100000, "is not JSON"),
        ("[]", "it is no object"),
        ("5", "it is no object"),
        ("{}", "names no photo"),
        ('{"high": "x"}', "names no photo"),
        ('{"photo": "", "sha256": null, "high": "x"}', "names no photo"),
        ('{"photo": 5, "high": "x"}', "photo and sha256 are not texts"),
        ('{"photo": "a.png", "sha256": "abc", "high": "x"}', "64 hexadecimal digits"),
        ('{"photo": "a.png", "caption": "x"}', "neither high nor low"),
        ('{"photo": "a.png", "high": 5}', "'high' is 5, not a text"),
        ('{"photo": "a.png", "high": "x", "regions": 5}', "'regions' is 5, not a list"),
        ('{"photo": "a.png", "high": "x", "regions": [{"high": "y"}]}', "is no region"),
        ('{"photo": "a.png", "high": "x", "regions": "%s"}' % ("y" * 5000), "'regions' is"),
        ('{"photo": "a.png", "high": "\\ud83d"}', "can't encode"),
    ],
)
def test_a_line_that_does_not_fit_is_named_with_its_number(tmp_path, line, said):
    path = tmp_path / "captions.jsonl"
    path.write_text(f'{{"photo": "b.png", "low": "y"}}\n\n{line}\n', encoding="utf-8")
    message = refusal(path)
    assert said in message
    assert "line 3" in message
    assert len(message) < len(str(path)) + 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"photo": "a.png", "low": "y"}, 7]', "row 2"),
        (b'{"a.png": "a house"}', "the row of 'a.png'"),
        (b'{"a.png": {}}', "neither high nor low"),
        (b'"text"', "neither a list nor an object"),
        (b'[\n{"photo":}]', "line 2, column"),
        (b"", "is not JSON"),
        ('["é"]'.encode("utf-16"), "it is not UTF-8"),
    ],
)
def test_json_that_does_not_fit(tmp_path, content, said):
    (tmp_path / "captions.json").write_bytes(content)
    assert said in refusal(tmp_path / "captions.json")


@pytest.mark.parametrize("name", ["none.jsonl", "none.json", "none.parquet", "none"])
def test_a_file_that_is_not_there(tmp_path, name):
    assert "is not there" in refusal(tmp_path / name)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "captions.csv").write_text("a,b")
    assert "no file of captions" in refusal(tmp_path / "captions.csv")


def captions_of(tmp_path, *rows):
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return read_captions(path)


def test_the_hash_of_a_photo_comes_before_its_names(tmp_path):
    captions = captions_of(
        tmp_path,
        {"photo": "/x/a.png", "high": "path"},
        {"photo": "renamed.png", "sha256": digest("a"), "high": "hash"},
    )
    assert captions.of(Path("/x/a.png"), digest("a")).high == "hash"
    assert captions.of(Path("/x/a.png"), digest("b")).high == "path"


def test_then_its_path_its_name_and_its_stem(tmp_path):
    captions = captions_of(
        tmp_path,
        {"photo": "/x/a.png", "high": "path"},
        {"photo": "/y/a.png", "high": "other path"},
        {"photo": "/y/b.png", "high": "name"},
        {"photo": "/y/b.jpg", "high": "other name"},
        {"photo": "c.v2", "high": "stem with a dot"},
        {"photo": "C:\\photos\\d.JPG", "high": "windows"},
    )
    assert captions.of(Path("/x/../x/a.png"), NOWHERE).high == "path"
    assert captions.of(Path("/z/b.png"), NOWHERE).high == "name"
    assert captions.of(Path("/z/c.v2.tif"), NOWHERE).high == "stem with a dot"
    assert captions.of(Path("/z/d.png"), NOWHERE).high == "windows"
    assert captions.of(Path("/z/d.JPG"), NOWHERE).high == "windows"
    assert captions.of(Path("/z/e.png"), NOWHERE) is None


def test_relative_paths_count_from_here_and_from_the_file(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    captions = captions_of(
        tmp_path,
        {"photo": "x/a.png", "high": "one"},
        {"photo": "y/a.png", "high": "two"},
        {"photo": "a.png", "low": "z"},
    )
    assert captions.of(Path("x/a.png"), NOWHERE).high == "one"
    assert captions.of(here / "y" / "a.png", NOWHERE).high == "two"
    assert captions.of(tmp_path / "y" / "a.png", NOWHERE).high == "two"


def test_rows_that_say_different_things_are_refused(tmp_path):
    captions = captions_of(
        tmp_path,
        {"photo": "x/a.png", "high": "one"},
        {"photo": "y/a.png", "high": "two"},
        {"photo": "x/b.png", "sha256": digest("b"), "high": "one"},
        {"photo": "y/b.png", "sha256": digest("b"), "high": "two"},
    )
    with pytest.raises(UsageError) as caught:
        captions.of(Path("/z/a.png"), NOWHERE)
    assert "line 1 and line 2" in caught.value.message
    assert str(Path("/z/a.png")) in caught.value.message
    assert caught.value.exit_code == ExitCode.USAGE
    with pytest.raises(UsageError, match="line 3 and line 4"):
        captions.of(Path("/z/b.png"), digest("b"))
    assert captions.of(tmp_path / "y" / "b.png", digest("b")).high == "two"
    with pytest.raises(UsageError, match="different things"):
        captions.of(Path("/z/a.webp"), NOWHERE)


def test_rows_that_say_the_same_are_one(tmp_path):
    captions = captions_of(
        tmp_path,
        {"photo": "x/a.png", "high": "one", "captioner": "tiny"},
        {"photo": "y/a.png", "high": "one"},
    )
    assert captions.of(Path("/z/a.png"), NOWHERE).high == "one"


def test_a_row_without_a_photo_is_found_by_its_hash_alone(tmp_path):
    captions = captions_of(tmp_path, {"sha256": digest("a"), "high": "one"})
    assert captions.of(Path("a.png"), digest("a")).high == "one"
    assert captions.of(Path.cwd(), NOWHERE) is None


def test_text_files_of_photos_with_two_extensions_are_theirs(tmp_path):
    photos = ("a.jpg", "a.jpg.png", "b.tif.webp")
    write_text_pairs([CaptionRow(name, "", Caption(name, "", "one")) for name in photos], tmp_path)
    file = read_captions(tmp_path)
    assert [file.of(Path(name), "").high for name in photos] == list(photos)
