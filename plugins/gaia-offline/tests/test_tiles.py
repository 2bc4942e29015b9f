import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaia_offline import tiles

WEIGHTS = Path(tiles.__file__).parent / "weights" / "tiles.onnx"
WEIGHTS_SHA256 = "10281c17434f0cdb7657bca50f165f8af38481aed3ccc20670f43a335525e3b8"
RED_DRAGON = Path(__file__).parent / "red-dragon-seed-7.png"


def test_the_weights_are_the_ones_the_model_card_describes() -> None:
    """The shipped weights have the published hash."""
    actual = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()

    assert actual == WEIGHTS_SHA256


def test_a_fixed_seed_draws_the_picture_it_always_drew() -> None:
    """A picture differs from the stored one by rounding at most."""
    expected = np.asarray(Image.open(RED_DRAGON).convert("RGBA")).astype(float)

    actual = tiles.draw("red dragon", seed=7).pixels

    assert np.abs(actual - expected).mean() < 4


def test_the_same_arguments_draw_the_same_bytes() -> None:
    """Two runs with one seed agree in every pixel."""
    first = tiles.draw("blue potion", seed=3, num_inference_steps=8)
    second = tiles.draw("blue potion", seed=3, num_inference_steps=8)

    assert first == second


@pytest.mark.parametrize(
    ("prompt", "seed"),
    [("blue potion", 4), ("green potion", 3), ("sword", 3)],
    ids=["other seed", "other colour", "other thing"],
)
def test_another_prompt_or_seed_draws_another_picture(prompt: str, seed: int) -> None:
    """What is asked for changes what is drawn."""
    first = tiles.draw("blue potion", seed=3, num_inference_steps=8)
    second = tiles.draw(prompt, seed=seed, num_inference_steps=8)

    assert first != second


def test_a_picture_has_colour_and_a_clear_ground() -> None:
    """A drawn thing stands on transparency."""
    alpha = tiles.draw("green slime", seed=1).pixels[..., 3]

    assert alpha.shape == (32, 32)
    assert alpha[0, 0] == 0
    assert 0.1 < (alpha > 0).mean() < 0.95


def test_a_blue_potion_is_bluer_than_a_red_one() -> None:
    """A colour word colours the thing."""

    def blueness(prompt: str) -> float:
        pixels = tiles.draw(prompt, seed=2).pixels.astype(float)
        shown = pixels[pixels[..., 3] > 0]
        return float((shown[:, 2] - shown[:, 0]).mean())

    assert blueness("blue potion") > blueness("red potion") + 10


def test_words_outside_the_vocabulary_are_listed() -> None:
    """Unknown words are named in the order they were said, each once."""
    picture = tiles.draw(
        "a red zeppelin, and a zeppelin harbour", seed=1, num_inference_steps=1
    )

    assert picture.unknown_words == ("zeppelin", "harbour")


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("drake", "dragon"),
        ("Mage", "wizard"),
        ("warrior", "knight"),
        ("hound", "wolf"),
        ("Tarantulas", "spider"),
        ("swords", "sword"),
        ("golden", "yellow"),
        ("gray", "grey"),
    ],
)
def test_other_names_for_known_things_are_understood(said: str, word: str) -> None:
    """A synonym or plural reads as the word the model knows."""
    reading = tiles.vocabulary().understand(said)

    assert reading.words == (word,)
    assert reading.unknown == ()


def test_a_long_prompt_keeps_its_subject() -> None:
    """Of more than eight known words the well-known thing comes first."""
    prompt = "red blue green yellow purple pink brown white black dragon"

    reading = tiles.vocabulary().understand(prompt)

    assert reading.words[0] == "dragon"
    assert len(reading.words) == tiles.MOST_WORDS
    assert reading.surplus == ("white", "black")


def test_the_vocabulary_holds_the_twenty_things() -> None:
    """Every well-known thing is a word of the vocabulary."""
    known = tiles.vocabulary()

    assert len(known.concepts) == 20
    assert known.concepts.keys() <= known.numbers.keys()
    assert set(known.synonyms.values()) <= known.numbers.keys()


def test_a_thing_without_a_colour_gets_one_by_the_seed() -> None:
    """What was assumed is told, and a named colour is left alone."""
    bare = tiles.draw("a slime", seed=1, num_inference_steps=1)
    named = tiles.draw("a red slime", seed=1, num_inference_steps=1)

    assert bare.assumed_words == ("blue",)
    assert named.assumed_words == ()


def test_a_negative_prompt_changes_the_picture() -> None:
    """What is to be avoided is taken into account."""
    plain = tiles.draw("dragon", seed=5, num_inference_steps=6)
    steered = tiles.draw("dragon", seed=5, num_inference_steps=6, negative_prompt="red")

    assert plain != steered


def test_progress_is_reported_after_every_step() -> None:
    """The caller hears the share that is done, ending with all of it."""
    heard: list[float] = []

    tiles.draw("ring", seed=1, num_inference_steps=4, progress=heard.append)

    assert heard == [0.25, 0.5, 0.75, 1.0]


def test_no_steps_are_refused() -> None:
    """Fewer than one step is an error that says what to do."""
    with pytest.raises(ValueError, match="at least one"):
        tiles.draw("ring", seed=1, num_inference_steps=0)
