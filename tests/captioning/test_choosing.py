"""Who describes the photos, chosen without loading anything."""

import subprocess
import sys

import pytest
from chat_server import ChatServer
from small_captioners import grey_photo
from small_photos import refusal

from xpsr_cli.captioning.captioning import Origin, caption_photos
from xpsr_cli.captioning.choosing import choose_captioner
from xpsr_cli.captioning.measured import MEASURED_KEY, MeasuredCaptioner
from xpsr_cli.captioning.mllm_files import mllm_key
from xpsr_cli.captioning.store import CaptionStore
from xpsr_cli.errors import EndpointError, UsageError, WeightsError
from xpsr_cli.settings import Quantization
from xpsr_cli.weights import entry_named, user_folder


def test_photos_are_measured_where_there_is_no_model_and_that_is_said():
    choice = choose_captioner()
    assert choice.key == MEASURED_KEY
    assert isinstance(choice.load(), MeasuredCaptioner)
    assert "measured" in choice.note
    assert "xpsr weights pull llava-1.5-7b" in choice.note


def test_measuring_by_name_needs_no_words():
    choice = choose_captioner("measured")
    assert (choice.key, choice.note) == (MEASURED_KEY, "")


def test_the_installed_model_is_taken():
    folder = user_folder() / "llava-1.5-7b"
    folder.mkdir(parents=True)
    for file in entry_named("llava-1.5-7b").files:
        (folder / file.path).write_text('{"weight_map": {}}')
    choice = choose_captioner()
    assert (choice.key.name, choice.note) == ("llava-1.5-7b", "")
    assert choice.key != choose_captioner(quantize=Quantization.FOUR_BIT).key


@pytest.mark.parametrize("model", ["xpsr-mini", "llava-1.5-7b", "no-such-model", "nobody/nothing", "."])
def test_a_model_that_is_not_there_is_refused_before_anything_is_loaded(model):
    with pytest.raises(WeightsError):
        choose_captioner(model)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"model": "measured", "quantize": Quantization.FOUR_BIT}, "quantize is 4bit"),
        ({"endpoint": "http://127.0.0.1:9", "quantize": Quantization.EIGHT_BIT}, "quantize is 8bit"),
        ({"endpoint": "http://127.0.0.1:9", "model": "measured"}, "http://127.0.0.1:9"),
        ({"endpoint": "no address"}, "no address"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags, words):
    with refusal(UsageError, words):
        choose_captioner(**flags)


def test_a_server_describes(tmp_path):
    photo, store = grey_photo(tmp_path / "a.png", 100), CaptionStore(tmp_path / "captions")
    with ChatServer(models=["small-llava"]) as server:
        for model in ("auto", "small-llava"):
            choice = choose_captioner(model, endpoint=server.url, batch_size=2)
            assert "small-llava" in choice.key.name
            (item,) = caption_photos([photo], choice, store)
            assert item.caption.high == "A picture of colour 100 100 100."
        assert item.origin is Origin.STORE  # the same model by its name
        assert len(server.questions) == 2


def test_a_server_that_is_down_is_told_of_when_it_is_needed(tmp_path):
    photo, store = grey_photo(tmp_path / "a.png", 100), CaptionStore(tmp_path / "captions")
    with ChatServer() as server:
        address = server.url
        list(caption_photos([photo], choose_captioner("tiny-llava", endpoint=address), store))
    (item,) = caption_photos([photo], choose_captioner("tiny-llava", endpoint=address), store)
    assert item.origin is Origin.STORE
    other = grey_photo(tmp_path / "b.png", 50)
    with refusal(EndpointError):
        list(caption_photos([other], choose_captioner("tiny-llava", endpoint=address), store))


def test_the_key_of_a_tiny_model_is_that_of_its_files(tmp_path):
    from tiny_llava import build_tiny_llava

    from xpsr_cli.captioning.mllm_files import find_mllm

    folder = build_tiny_llava(tmp_path / "tiny")
    choice = choose_captioner(str(folder), device="cpu")
    assert choice.key == mllm_key(find_mllm(str(folder)))
    assert choice.load().says_content


def test_choosing_imports_no_torch():
    script = "import sys; from xpsr_cli.captioning.choosing import choose_captioner as c; c('measured'); c()"
    script += "; assert not {'torch', 'transformers', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
