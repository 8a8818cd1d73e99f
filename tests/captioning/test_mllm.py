"""Photos described by tiny multimodal models of the real classes, against what transformers alone makes of each."""

import json
import logging

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from small_photos import refusal
from tiny_llava import build_tiny_llava, build_tiny_llava_next, build_tiny_qwen
from transformers import AutoModelForImageTextToText, AutoProcessor

from xpsr_cli.captioning.captions import HIGH_INSTRUCTION, LOW_INSTRUCTION, Box, Caption
from xpsr_cli.captioning.mllm import load_mllm
from xpsr_cli.captioning.mllm_dialogue import whole_sentences
from xpsr_cli.captioning.mllm_files import MAX_NEW_TOKENS, MllmFiles
from xpsr_cli.captioning.views import take_view
from xpsr_cli.errors import OutOfMemoryError, UsageError, WeightsError
from xpsr_cli.photos.photo import Photo
from xpsr_cli.settings import Precision, Quantization

BUILDERS = {"llava": build_tiny_llava, "llava-next": build_tiny_llava_next, "qwen": build_tiny_qwen}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each of the models' folders."""
    root = tmp_path_factory.mktemp("mllm")
    return {name: build(root / name) for name, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def llava(folders):
    return load(folders["llava"])


def load(folder, **options):
    return load_mllm(MllmFiles(folder.name, folder), device="cpu", precision=Precision.FP32, **options)


def photo_of(seed, width, height):
    """A colour of its own under noise of its own."""
    rng = np.random.default_rng(seed)
    values = rng.random((1, 1, 3)) + 0.3 * rng.random((height, width, 3))
    return Photo((np.clip(values, 0, 1) * 255).astype(np.uint8))


def photos(count):
    return [photo_of(seed, 40 + 17 * (seed % 5), 90 - 11 * (seed % 6)) for seed in range(count)]


def looks_of(captioner, count):
    return [captioner.look(photo) for photo in photos(count)]


def altered(folder, target, **settings):
    """A copy of a model whose generation_config.json says something else."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    stored = json.loads((target / "generation_config.json").read_text())
    (target / "generation_config.json").write_text(json.dumps(stored | settings))
    return target


@pytest.mark.parametrize("name", BUILDERS)
def test_one_at_a_time_and_four_at_a_time_say_the_same_of_24_photos(folders, name):
    captioner = load(folders[name], batch_size=1)
    looks = looks_of(captioner, 24)
    alone = captioner.describe(looks)
    captioner.batch_size = 4
    assert captioner.describe(looks) == alone
    assert len({caption.high for caption in alone}) >= 22  # gibberish, which may be the same by chance
    assert len({caption.low for caption in alone}) >= 22
    for caption in alone:
        assert caption == Caption(" ".join(caption.high.split()), " ".join(caption.low.split()), name)
        assert caption.high
        assert caption.low
    captioner.batch_size = 1  # a question alone, which is not padded at all
    assert captioner.summarize(looks[:6]) == [caption.high for caption in alone[:6]]


@torch.inference_mode()
def answer_of_transformers(folder, picture, instruction):
    """The new tokens for one question, alone, without any padding, the image given as pixels."""
    processor = AutoProcessor.from_pretrained(folder)
    network = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    side = max(picture.shape[:2])
    square = Image.new("RGB", (side, side), tuple(round(255 * v) for v in processor.image_processor.image_mean))
    square.paste(Image.fromarray(picture), ((side - picture.shape[1]) // 2, (side - picture.shape[0]) // 2))
    prompt = f"USER: <image>\n{instruction} ASSISTANT:"
    inputs = processor(images=square, text=prompt, return_tensors="pt")
    made = network.generate(**inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
    return made[0, inputs.input_ids.shape[1] :].tolist(), processor.tokenizer


@pytest.mark.parametrize("name", ["llava", "llava-next"])
def test_the_answers_are_those_of_the_model_asked_one_question_at_a_time(folders, name):
    captioner = load(folders[name], batch_size=4)
    for photo, caption in zip(photos(4), captioner.describe(looks_of(captioner, 4)), strict=True):
        for instruction, text in ((HIGH_INSTRUCTION, caption.high), (LOW_INSTRUCTION, caption.low)):
            tokens, tokenizer = answer_of_transformers(folders[name], photo.pixels, instruction)
            whole = " ".join(tokenizer.decode(tokens, skip_special_tokens=True).split())
            assert whole.startswith(text)
            assert whole == text or text.endswith((".", "!", "?"))  # cut where the limit broke a sentence off
            assert text


def test_every_answer_ends_at_its_own_end(folders, llava, tmp_path):
    answers = [answer_of_transformers(folders["llava"], photo.pixels, HIGH_INSTRUCTION)[0] for photo in photos(6)]
    tokenizer = llava.dialogue.tokenizer
    places = {token: [row.index(token) if token in row else None for row in answers] for token in range(9, 400)}
    end = max(places, key=lambda token: len(set(places[token]) - {None, 0}))
    assert len(set(places[end]) - {None, 0}) >= 3
    ragged = load(altered(folders["llava"], tmp_path / "ragged", eos_token_id=[2, end], pad_token_id=50), batch_size=6)
    for tokens, place, caption in zip(answers, places[end], ragged.describe(looks_of(ragged, 6)), strict=True):
        expected = " ".join(tokenizer.decode(tokens[:place], skip_special_tokens=True).split())
        assert caption.high == expected if place is not None else expected.startswith(caption.high)


def test_sampling_a_model_asks_for_is_not_done(folders, llava, tmp_path):
    wild = {"do_sample": True, "temperature": 3.0, "num_beams": 3, "repetition_penalty": 9.0, "max_new_tokens": 3}
    captioner = load(altered(folders["llava"], tmp_path / "llava", **wild))
    assert captioner.describe(looks_of(captioner, 3)) == llava.describe(looks_of(llava, 3))


def test_a_llava_without_template_and_processor_config_says_the_same(llava, tmp_path):
    plain = load(build_tiny_llava(tmp_path / "llava", template=False))
    assert not (tmp_path / "llava" / "processor_config.json").exists()
    assert plain.describe(looks_of(plain, 3)) == llava.describe(looks_of(llava, 3))


def test_an_image_is_encoded_once_however_often_it_is_asked_about(llava, monkeypatch):
    encoded = []
    hook = llava.network.model.vision_tower.register_forward_hook(
        lambda _, inputs, options, __: encoded.append(len(options.get("pixel_values", inputs[0] if inputs else ()))),
        with_kwargs=True,
    )
    monkeypatch.setattr(llava, "batch_size", 3)
    large = take_view(photo_of(9, 1700, 600))
    small = looks_of(llava, 3)
    try:
        llava.describe(small)
        assert encoded == [3]
        llava.describe([small[0], large])  # of a large photo the whole and a detail are seen
        assert encoded == [3, 3]
    finally:
        hook.remove()


def test_the_detail_of_a_large_photo_is_what_its_quality_is_judged_by(llava):
    pixels = np.full((1200, 2600, 3), 200, np.uint8)
    calm = llava.describe([llava.look(Photo(pixels))])[0]
    pixels[400:800, 1100:1500] = np.random.default_rng(1).integers(0, 255, (400, 400, 3))
    look = llava.look(Photo(pixels))
    busy = llava.describe([look])[0]
    assert busy.low != calm.low
    alone = llava.describe([llava.look(Photo(look.detail))])[0]
    assert busy.low == alone.low
    assert busy.high == llava.describe([llava.look(Photo(look.whole))])[0].high


def test_a_box_is_described_as_if_it_were_a_photo(llava):
    photo = photo_of(3, 200, 120)
    part = Photo(photo.pixels[20:100, 50:150].copy())
    boxed = llava.summarize([llava.look(photo, Box(50, 20, 100, 80))])
    assert boxed == llava.summarize([llava.look(part)])
    assert boxed != llava.summarize([llava.look(photo)])


@pytest.mark.parametrize("name", BUILDERS)
def test_strips_and_tiny_photos_are_described(folders, name):
    captioner = load(folders[name])
    captions = captioner.describe(
        [captioner.look(photo_of(k, *size)) for k, size in enumerate([(4000, 16), (16, 16)])]
    )
    assert all(caption.high and caption.low for caption in captions)


def test_the_sides_of_a_photo_are_seen(llava):
    pixels = np.full((50, 150, 3), 127, np.uint8)
    middle = llava.describe([llava.look(Photo(pixels.copy()))])[0]
    pixels[:, :45] = (255, 0, 0)
    assert llava.describe([llava.look(Photo(pixels))])[0].high != middle.high


def full_above(network, rows):
    """Has the language model run out of memory, as a GPU does, when more than ``rows`` are given to it."""

    def fail(_, __, options):
        if options["inputs_embeds"].shape[0] > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return network.model.language_model.register_forward_pre_hook(fail, with_kwargs=True)


def test_too_little_memory_halves_the_batch_and_says_so(folders, llava, caplog):
    captioner = load(folders["llava"], batch_size=8)
    full_above(captioner.network, 4)  # two photos of two questions
    with caplog.at_level(logging.WARNING, "xpsr_cli"):
        captions = captioner.describe(looks_of(captioner, 7))
    assert captions == llava.describe(looks_of(llava, 7))
    assert captioner.batch_size == 2
    assert [record.getMessage() for record in caplog.records] == [
        "The memory does not suffice: 4 photos at a time from here on.",
        "The memory does not suffice: 2 photos at a time from here on.",
    ]


def test_too_little_memory_for_one_photo_is_an_error_of_its_own(folders):
    captioner = load(folders["llava"], batch_size=4)
    full_above(captioner.network, 0)
    with refusal(OutOfMemoryError, "one photo", "llava", "--quantize 4bit"):
        captioner.describe(looks_of(captioner, 2))


def test_another_error_is_not_taken_for_memory(folders):
    captioner = load(folders["llava"], batch_size=4)

    def fail(*_):
        raise RuntimeError("a matrix of the wrong size")

    captioner.network.model.language_model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="wrong size"):
        captioner.describe(looks_of(captioner, 2))
    assert captioner.batch_size == 4


def test_a_closed_captioner_holds_no_weights(folders):
    captioner = load(folders["llava"])
    weight = captioner.network.lm_head.weight
    assert sum(tensor is weight for tensor in captioner.network.parameters()) == 1
    captioner.close()
    assert captioner.network is None


def test_a_model_that_the_memory_cannot_hold_is_refused_before_it_is_read(folders, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 300_000})())
    with refusal(OutOfMemoryError, "llava needs about", "GB"):
        load(folders["llava"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch-size is 0"),
        ({"device": "cuda:77"}, "device cuda:77"),
        ({"precision": Precision.FP16, "device": "cpu"}, "fp16"),
    ],
)
def test_settings_that_cannot_be_had_are_refused_first(folders, options, words):
    with pytest.raises(UsageError, match=words):
        load_mllm(MllmFiles("llava", folders["llava"]), **options)


def copy(folder, target):
    return altered(folder, target)


def test_damaged_weights_are_one_sentence(folders, tmp_path):
    damaged = copy(folders["llava"], tmp_path / "damaged")
    content = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(content[: len(content) // 2])
    with refusal(WeightsError, damaged, "cannot be loaded"):
        load(damaged)


@pytest.mark.parametrize(("key", "value"), [("hidden_size", 32), ("num_hidden_layers", 3)])
def test_weights_that_do_not_fit_the_config_are_refused(folders, tmp_path, key, value):
    other = copy(folders["llava"], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["text_config"][key] = value
    (other / "config.json").write_text(json.dumps(config))
    with refusal(WeightsError, other):
        load(other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "siglip", "architectures": None}, "siglip"),
        ({"model_type": "no-such-model"}, "no-such-model"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}, "code of its own"),
    ],
)
def test_models_that_transformers_does_not_know_as_such_are_refused(folders, tmp_path, change, words):
    other = copy(folders["llava"], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | change))
    with refusal(WeightsError, "other", words):
        load(other)


def test_weights_that_are_quantised_already_are_not_quantised_again(folders, tmp_path):
    other = copy(folders["llava"], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"quantization_config": {"load_in_4bit": True}}))
    with refusal(UsageError, "other", "--quantize"):
        load(other, quantize=Quantization.FOUR_BIT)


def test_a_processor_that_cannot_be_read_is_one_sentence(folders, tmp_path):
    other = copy(folders["llava"], tmp_path / "other")
    (other / "tokenizer.json").write_text("{}")
    with refusal(WeightsError, other, "processor"):
        load(other)


def test_a_model_without_template_that_is_no_llava_is_refused(folders, tmp_path):
    other = copy(folders["qwen"], tmp_path / "other")
    (other / "chat_template.jinja").unlink()
    with refusal(WeightsError, other, "chat template"):
        load(other)


def test_a_prompt_is_what_the_template_makes_of_the_instruction(llava):
    assert llava.dialogue.prompt("What is it?") == "USER: <image>\nWhat is it? ASSISTANT:"


def test_rows_are_padded_on_the_left_and_begin_once(llava):
    pictures = [photo.pixels for photo in photos(2)]
    inputs = llava.dialogue.inputs(pictures, ["Short.", LOW_INSTRUCTION])
    mask = inputs["attention_mask"]
    assert mask[0, 0] == 0
    assert mask[:, -1].tolist() == [1, 1]
    assert ((inputs["input_ids"] == 1).sum(dim=1) == 1).all()


def test_a_template_that_begins_the_text_itself_does_not_begin_it_twice(folders, tmp_path):
    other = copy(folders["llava"], tmp_path / "other")
    template = other / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())
    captioner = load(other)
    assert captioner.dialogue.prompt("What?").startswith("<s>")
    inputs = captioner.dialogue.inputs([photos(1)[0].pixels], ["What?"])
    assert ((inputs["input_ids"] == 1).sum(dim=1) == 1).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A house. It is old and", "A house."),
        ("Is it? It is! So it", "Is it? It is!"),
        ('They say "no." And then', 'They say "no."'),
        ("a house of 2.5 metres", "a house of 2.5 metres"),
        ("A house of 2.5 metres. It", "A house of 2.5 metres."),
        ("A house.", "A house."),
        ("", ""),
    ],
)
def test_what_the_limit_cuts_off_ends_with_a_whole_sentence(text, expected):
    assert whole_sentences(text) == expected
