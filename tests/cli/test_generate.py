"""``gaia generate``: from words to files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from gaia_core import Image

Gaia = Callable[..., Result]
Install = Callable[..., Path]

JPEG = """
    import attrs
    from gaia_core import GeneratedImage, ImageResult
    from gaia_core.testing import FakeProvider, jpeg

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        def __attrs_post_init__(self):
            images = [GeneratedImage(data=jpeg(8, 8))]
            answer = ImageResult(images=images, provider="studio", model="fake")
            self.outcomes.append(answer)
"""
BUSY = """
    import attrs
    from gaia_core import RateLimitError
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        failure: Exception | None = RateLimitError("slow\\tdown")
        priority: int = 9
"""


def test_it_prints_where_the_picture_is(
    gaia: Gaia, install: Install, store: Path
) -> None:
    """Without an output the path in the store is the whole of standard output."""
    install()

    result = gaia("generate", "a red dragon")

    path = Path(result.stdout.strip())
    assert result.exit_code == 0
    assert path.is_relative_to(store)
    assert Image.open(path).width == 1024
    assert result.stderr == ""


def test_every_option_reaches_the_provider(
    gaia: Gaia, install: Install, picture: Path, tmp_path: Path
) -> None:
    """What a person types arrives in the request."""
    install(source=_ECHO)
    seen = tmp_path / "seen.json"

    result = gaia(
        *("--set", f"providers.studio.log={seen}"),
        *("generate", "a keep", "--size", "64x32", "-n", 2, "--seed", 7),
        *("--negative", "fog", "--steps", 5, "--guidance", 2.5, "--style", "ink"),
        *("--image", picture, "--strength", 0.5, "--mask", picture),
        *("--reference", picture, "--campaign", "c1", "-p", "studio", "-m", "fake"),
        *("--option", "studio.scheduler=Euler", "--option", "studio.clip=[1, 2]"),
    )

    assert result.exit_code == 0, result.stderr
    assert json.loads(seen.read_text(encoding="utf-8")) == {
        "prompt": "a keep",
        "width": 64,
        "height": 32,
        "num_images": 2,
        "seed": 7,
        "negative_prompt": "fog",
        "num_inference_steps": 5,
        "guidance_scale": 2.5,
        "style": "ink",
        "strength": 0.5,
        "campaign_id": "c1",
        "provider": "studio",
        "model": "fake",
        "provider_options": {"studio": {"scheduler": "Euler", "clip": [1, 2]}},
        "pictures": 3,
    }


_ECHO = """
    import json
    from pathlib import Path

    import attrs
    from gaia_core import hookimpl
    from gaia_core.testing import FakeProvider

    FIELDS = (
        "prompt width height num_images seed negative_prompt num_inference_steps "
        "guidance_scale style strength campaign_id provider model provider_options"
    ).split()

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        log: str = ""

        @hookimpl
        async def gaia_generate(self, request, context):
            seen = {name: getattr(request, name) for name in FIELDS}
            pictures = [request.image, request.mask_image, *request.reference_images]
            seen["pictures"] = len([one for one in pictures if one is not None])
            Path(self.log).write_text(json.dumps(seen))
            return await FakeProvider.gaia_generate(self, request, context)
"""


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (("--size", "64"), (64, 64)),
        (("--image", "picture.png"), (32, 16)),
        (("--image", "picture.png", "--outpaint", "left=16,top=8"), (48, 24)),
        (("--image", "picture.png", "--size", "64x64"), (64, 64)),
    ],
    ids=["one-number", "as-the-picture", "with-borders", "size-wins"],
)
def test_the_size_follows_from_what_is_given(
    gaia: Gaia,
    install: Install,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    size: tuple[int, int],
) -> None:
    """A picture decides the size unless a person does."""
    install()
    monkeypatch.chdir(picture.parent)

    result = gaia("generate", "a keep", "-o", "out.png", *options)

    image = Image.open(Path("out.png"))
    assert result.exit_code == 0, result.stderr
    assert (image.width, image.height) == size


def test_the_prompt_comes_from_standard_input(gaia: Gaia, install: Install) -> None:
    """The prompt ``-`` stands for what is piped in, without its last line end."""
    install()

    result = gaia("generate", "-", "--json", "--size", "16", stdin=b"a dragon\n")

    again = gaia("generate", "a dragon", "--json", "--size", "16")
    first, second = json.loads(result.stdout), json.loads(again.stdout)
    assert first["images"][0]["seed"] == second["images"][0]["seed"]


def test_the_picture_comes_from_standard_input(
    gaia: Gaia, install: Install, picture: Path
) -> None:
    """The picture ``-`` stands for the bytes that are piped in."""
    install()

    result = gaia(
        *("generate", "a keep", "--image", "-", "--json"), stdin=picture.read_bytes()
    )

    assert json.loads(result.stdout)["images"][0]["width"] == 32


@pytest.mark.parametrize(
    "words",
    [("-", "--image", "-"), ("a", "--image", "-", "--mask", "-")],
    ids=["prompt-and-image", "image-and-mask"],
)
def test_standard_input_is_read_once(
    gaia: Gaia, install: Install, words: tuple[str, ...]
) -> None:
    """Two readers of standard input are wrong usage."""
    install()

    result = gaia("generate", *words, stdin=b"x")

    assert result.exit_code == 2
    assert "Standard input can be read once" in result.stderr


def test_pictures_go_where_they_are_asked_for(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """A file name takes one picture, and is what gets printed."""
    install()
    target = tmp_path / "new" / "dragon.png"

    result = gaia("generate", "a dragon", "--size", "16", "-o", target)

    assert result.stdout == f"{target}\n"
    assert Image.open(target).width == 16


def test_several_pictures_are_numbered(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """A file name takes several pictures under numbers."""
    install()

    result = gaia(
        *("generate", "a dragon", "--size", "16", "-n", 3, "-o", tmp_path / "d.png")
    )

    names = [Path(line).name for line in result.stdout.splitlines()]
    assert names == ["d-1.png", "d-2.png", "d-3.png"]
    assert all((tmp_path / name).is_file() for name in names)


def test_a_folder_takes_pictures_under_their_own_names(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """An output that ends in a slash is a folder, made if need be."""
    install()

    result = gaia(
        *("generate", "a", "--size", "16", "-n", 2, "-o", f"{tmp_path}/album/")
    )

    files = {str(path) for path in (tmp_path / "album").iterdir()}
    assert files == set(result.stdout.splitlines())
    assert len(files) == 2


def test_a_wrong_suffix_is_pointed_out(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """JPEG bytes keep the name a person asked for, with a warning."""
    install(source=JPEG)

    result = gaia("generate", "a dragon", "-o", tmp_path / "dragon.png")

    assert result.exit_code == 0
    assert Image.open(tmp_path / "dragon.png").media_type == "image/jpeg"
    assert "holds image/jpeg; its suffix is .jpg" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "-", "--json"), "both want standard output"),
        (("-o", "-", "-n", "2"), "takes one picture"),
        (("-o", ""), "-o is empty"),
        (("-o", "file/dragon.png"), "cannot be made"),
    ],
    ids=["json", "several", "empty", "below-a-file"],
)
def test_an_impossible_output_is_refused_before_paying(
    gaia: Gaia,
    install: Install,
    store: Path,
    options: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Nothing is made when it could not be delivered."""
    install()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")

    result = gaia("generate", "a dragon", *options)

    assert result.exit_code == 2
    assert words in result.output
    assert not store.exists()


def test_json_is_one_document(gaia: Gaia, install: Install, tmp_path: Path) -> None:
    """``--json`` prints the response, and where the output was written."""
    install()
    target = tmp_path / "dragon.png"

    result = gaia("generate", "a dragon", "--size", "16", "--json", "-o", target)

    document = json.loads(result.stdout)
    assert set(document) == {
        *("operation_id", "provider", "model", "images", "cost_usd"),
        *("is_reused", "duration_ms", "warnings", "attempts"),
    }
    assert document["provider"] == "studio"
    assert document["images"][0]["output"] == str(target)
    assert document["attempts"][0]["outcome"] == "ok"


def test_a_fallback_is_told(gaia: Gaia, install: Install) -> None:
    """Who failed and who served instead stands on standard error, on one line."""
    install("busy", BUSY)
    install()

    result = gaia("generate", "a dragon", "--size", "16")

    assert result.exit_code == 0
    assert result.stderr == (
        "warning: busy/fake failed 4 times (slow down); served by studio/fake\n"
    )


def test_what_plugins_print_is_no_result(gaia: Gaia, install: Install) -> None:
    """A plugin that prints does not get into standard output."""
    install(
        source="print('hello')\nfrom gaia_core.testing import FakeProvider as Plugin"
    )

    result = gaia("generate", "a dragon", "--size", "16", "--json")

    assert json.loads(result.stdout)["provider"] == "studio"
    assert "hello" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "wide"), "--size takes WIDTHxHEIGHT"),
        (("--size", "4x4"), "width must be 16 to 8192 pixels"),
        (("--outpaint", "left"), "--outpaint takes pixels per side"),
        (("--outpaint", "up=3"), "--outpaint takes pixels per side"),
        (("--option", "scheduler=Euler"), "--option takes PROVIDER.KEY=VALUE"),
        (("--max-cost", "cheap"), "--max-cost takes US dollars"),
        (("--max-cost", "nan"), "--max-cost takes US dollars"),
        (("--mask", "no.png"), "cannot be read"),
        (("--image", ""), "cannot be read"),
        (("--strength", "0.5"), "strength needs image"),
        (("-n", "9"), "num_images must be 1 to 8"),
        (("--policy", "luck"), "'luck' is not one of"),
        (("--timeout", "0"), "0 is not in the range"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_explained(
    gaia: Gaia, install: Install, options: tuple[str, ...], words: str
) -> None:
    """A wrong option ends with code 2 and names what would be right."""
    install()

    result = gaia("generate", "a dragon", *options)

    assert result.exit_code == 2
    assert words in result.stderr


def test_a_price_ceiling_passes_the_dear_over(gaia: Gaia, install: Install) -> None:
    """``--max-cost`` leaves nobody when all are dearer."""
    install()

    result = gaia(
        *("--set", "providers.studio.price_usd=0.04"),
        *("generate", "a dragon", "--max-cost", "$0.01"),
    )

    assert result.exit_code == 4
    assert "costs $0.04, the ceiling is $0.01" in result.stderr


def test_an_equal_request_with_a_seed_is_made_once(
    gaia: Gaia, install: Install
) -> None:
    """The answer is given again by another command, for nothing, and says so."""
    install()
    words = (
        *("--set=providers.studio.price_usd=0.04", "generate", "a dragon"),
        *("--size", "16", "--seed", "7", "--json"),
    )

    first, second = (json.loads(gaia(*words).stdout) for _ in range(2))

    assert (first["is_reused"], first["cost_usd"]) == (False, 0.04)
    assert (second["is_reused"], second["cost_usd"]) == (True, 0.0)
    assert second["images"] == first["images"]


def test_budgets_hold_from_one_command_to_the_next(
    gaia: Gaia, install: Install
) -> None:
    """What earlier commands spent counts; what does not fit is not made."""
    install()
    words = (
        *("--set=budgets.total_usd=0.05", "--set=providers.studio.price_usd=0.04"),
        *("generate", "a dragon"),
    )

    first, second = gaia(*words), gaia(*words)

    assert first.exit_code == 0
    assert second.exit_code == 1
    assert "$0.01" in second.stderr


def test_nothing_is_warned_of_a_limit(gaia: Gaia, install: Install) -> None:
    """Limits are kept, so there is nothing to say about them."""
    install()

    result = gaia("--set=limits.requests_per_minute=1", "generate", "a dragon")

    assert result.exit_code == 0
    assert result.stderr == ""


def test_a_lost_output_names_the_operation(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """A picture that was made but not written is still to be found."""
    install()
    target = tmp_path / "album" / "dragon.png"
    source = f"""
        from pathlib import Path
        from gaia_core import hookimpl
        from gaia_core.testing import FakeProvider

        class Plugin(FakeProvider):
            @hookimpl
            async def gaia_generate(self, request, context):
                Path({str(target.parent)!r}).rmdir()
                return await FakeProvider.gaia_generate(self, request, context)
    """
    install("spoiler", source)

    result = gaia("generate", "a", "-p", "spoiler", "--json", "-o", target)

    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert "The picture is kept as" in document["error"]
    assert document["operation_id"]
    assert document["attempts"][0]["outcome"] == "ok"
