"""``gaia batch`` and its ``status``, ``resume`` and ``cancel``."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from gaia_core import Image
from gaia_core.cli.batch_outputs import Copies
from gaia_core.testing import png

Gaia = Callable[..., Result]
Install = Callable[..., Path]

ROOT = Path(__file__).parent.parent.parent
GAIA = [sys.executable, "-m", "gaia_core.cli"]
SMALL = {"width": 16, "height": 16}
SCENES = [{"prompt": f"scene {number}", **SMALL} for number in range(3)]
PICKY = """
    import attrs
    from gaia_core import ContentFilteredError, hookimpl
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        price_usd: float = 0.25

        @hookimpl
        async def gaia_generate(self, request, context):
            if "dragon" in request.prompt:
                raise ContentFilteredError("No dragons here.")
            return await FakeProvider.gaia_generate(self, request, context)
"""
SLOW = """
    import asyncio
    from pathlib import Path

    import attrs
    from gaia_core import hookimpl
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        marker: str = ""
        gate: str = ""
        max_concurrent: int = 1

        @hookimpl
        def gaia_provider_info(self):
            info = FakeProvider.gaia_provider_info(self)
            return attrs.evolve(info, max_concurrent=1)

        @hookimpl
        async def gaia_generate(self, request, context):
            with Path(self.marker).open("a") as file:
                file.write(request.prompt + "\\n")
            await asyncio.sleep(0.5)
            while self.gate and not Path(self.gate).exists():
                await asyncio.sleep(0.02)
            return await FakeProvider.gaia_generate(self, request, context)
"""


@pytest.fixture(name="write")
def _write(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes a batch file."""

    def write(*records: object, name: str = "scenes.jsonl") -> Path:
        path = tmp_path / name
        lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


Write = Callable[..., Path]


def _latest(gaia: Gaia) -> list[dict[str, Any]]:
    document = json.loads(gaia("batch", "status", "--json").stdout)
    return list(document["batches"])


# -- carrying out -----------------------------------------------------------------


def test_a_file_is_carried_out(gaia: Gaia, install: Install, write: Write) -> None:
    """Every line is made, and a line says what it came to."""
    install()

    result = gaia("batch", write(*SCENES))

    assert result.exit_code == 0
    assert re.fullmatch(
        r"scenes\.jsonl, batch [0-9a-f]{32}: 3 of 3 done, free\n", result.stdout
    )
    assert result.stderr == ""


def test_the_same_file_again_makes_nothing(
    gaia: Gaia, install: Install, write: Write
) -> None:
    """A repetition is recognised by what the file asks for, and says so."""
    install()
    first = json.loads(gaia("batch", write(*SCENES), "--json").stdout)

    again = gaia("batch", write(*SCENES, name="other-name.jsonl"), "--json")

    assert json.loads(again.stdout) == first
    assert "nothing is made again" in again.stderr
    assert len(_latest(gaia)) == 1


def test_another_content_is_another_batch(
    gaia: Gaia, install: Install, write: Write
) -> None:
    """A file that changed is not the batch it was."""
    install()
    gaia("batch", write(*SCENES))

    result = gaia("batch", write(*SCENES[:2]))

    assert result.exit_code == 0
    assert [one["total"] for one in _latest(gaia)] == [2, 3]


def test_again_makes_it_anew(gaia: Gaia, install: Install, write: Write) -> None:
    """``--again`` is a batch of its own."""
    install()
    gaia("batch", write(*SCENES))

    result = gaia("batch", write(*SCENES), "--again", "--name", "second")

    assert result.exit_code == 0
    assert [one["name"] for one in _latest(gaia)] == ["second", "scenes.jsonl"]


def test_a_key_stands_for_what_it_was_used_for(
    gaia: Gaia, install: Install, write: Write
) -> None:
    """``--key`` recognises the same requests, and refuses others."""
    install()
    gaia("batch", write(*SCENES), "--key", "tuesday")

    same = gaia("batch", write(*SCENES), "--key", "tuesday")
    other = gaia("batch", write(*SCENES[:1]), "--key", "tuesday")
    both = gaia("batch", write(*SCENES), "--key", "tuesday", "--again")

    assert same.exit_code == 0
    assert "begun" in same.stderr
    assert (other.exit_code, both.exit_code) == (2, 2)
    assert len(_latest(gaia)) == 1


def test_requests_come_from_standard_input(gaia: Gaia, install: Install) -> None:
    """``-`` reads the lines that are piped in."""
    install()
    stdin = "".join(f"{json.dumps(one)}\n" for one in SCENES).encode()

    result = gaia("batch", "-", stdin=stdin)

    assert result.exit_code == 0
    assert "standard input" in result.stdout


def test_pictures_lie_beside_the_file(
    gaia: Gaia, install: Install, write: Write, picture: Path, tmp_path: Path
) -> None:
    """A path in a line is relative to the file; any verb can stand there."""
    install()
    file = write(
        {"operation": "upscale", "image": picture.name, "upscale_factor": 2},
        {"operation": "enhance_prompt", "prompt": "a keep"},
        {"operation": "describe_image", "image": picture.name},
    )

    result = gaia("batch", file, "-o", tmp_path / "out", "--json")
    items = json.loads(result.stdout)["items"]

    assert result.exit_code == 0
    assert [item["state"] for item in items] == ["done"] * 3
    assert [bool(item["words"]) for item in items] == [False, True, True]
    assert Image.open(tmp_path / "out" / "0001.png").width == 64
    assert "a keep" in (tmp_path / "out" / "0002.txt").read_text(encoding="utf-8")


def test_part_of_a_batch_may_fail(gaia: Gaia, install: Install, write: Write) -> None:
    """What failed is named by its line, with the reason, and the exit code is 3."""
    install(source=PICKY)
    file = write(*SCENES[:1], {"prompt": "a dragon", **SMALL}, *SCENES[1:])

    result = gaia("batch", file)

    assert result.exit_code == 3
    assert "3 of 4 done, 1 failed, $0.75" in result.stdout
    assert re.search(r"^2 +failed +[0-9a-f]{32} +No dragons here\.$", result.stdout, 8)


def test_nothing_done_is_a_failure(gaia: Gaia, install: Install, write: Write) -> None:
    """When no line could be made, the exit code is 1."""
    install(source=PICKY)

    result = gaia("batch", write({"prompt": "a dragon", **SMALL}))

    assert result.exit_code == 1


def test_many_failures_are_not_all_shown(
    gaia: Gaia, install: Install, write: Write
) -> None:
    """A summary names twenty; the document names all."""
    install(source=PICKY)
    file = write(*({"prompt": f"dragon {number}", **SMALL} for number in range(25)))

    shown = gaia("batch", file).stdout
    document = json.loads(gaia("batch", file, "--json").stdout)

    assert shown.count("No dragons here.") == 20
    assert "and 5 more" in shown
    assert [item["line"] for item in document["items"]] == list(range(1, 26))
    assert {item["error_type"] for item in document["items"]} == {
        "ContentFilteredError"
    }


def test_nobody_to_ask_fails_the_items(
    gaia: Gaia, install: Install, write: Write
) -> None:
    """Without anybody who can serve it, a batch ends, and says why."""
    install(source="from gaia_core.testing import FakeProvider\nPlugin = FakeProvider")

    result = gaia("batch", write({"prompt": "a", "model": "no-such", **SMALL}))

    assert result.exit_code == 1
    assert re.search(
        r"Nobody can serve this text-to-image request: .*no-such", result.stdout
    )


# -- wrong files ------------------------------------------------------------------


def test_wrong_lines_refuse_the_file(
    gaia: Gaia, install: Install, write: Write
) -> None:
    """Nothing is accepted; the first ten wrong lines are named, and counted are all."""
    install()
    file = write(SCENES[0], *(['{"promt": "x"}'] * 11), '{"prompt": ""}')

    result = gaia("batch", file)

    assert result.exit_code == 2
    assert "12 of 13 lines of scenes.jsonl are wrong; nothing was sent" in result.stderr
    assert result.stderr.count("did you mean prompt?") == 10
    assert "line 2: promt is unknown" in result.stderr
    assert "and 2 more" in result.stderr
    assert _latest(gaia) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\n\n", "is empty", id="blank"),
        pytest.param(b'\n{"prompt": "a"}\n', "line 1: It is empty", id="gap"),
        pytest.param(b'{"prompt": "\xff"}', "line 1: It is not UTF-8", id="latin"),
        pytest.param(b"[1]", "line 1: The line is no request", id="list"),
        pytest.param(
            b'{"operation": "upscale", "image": "gone.png"}',
            "line 1: image: The picture",
            id="picture",
        ),
    ],
)
def test_wrong_content_is_named(
    gaia: Gaia, install: Install, tmp_path: Path, content: bytes, words: str
) -> None:
    """Whatever is wrong with a file is said by its line."""
    install()
    path = tmp_path / "odd.jsonl"
    path.write_bytes(content)

    result = gaia("batch", path)

    assert result.exit_code == 2
    assert words in result.stderr


def test_what_editors_leave_is_no_matter(
    gaia: Gaia, install: Install, tmp_path: Path
) -> None:
    """A byte order mark, carriage returns and empty lines at the end are fine."""
    install()
    path = tmp_path / "windows.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"prompt": "a", "width": 16, "height": 16}\r\n\r\n\r\n'
    )

    result = gaia("batch", path)

    assert result.exit_code == 0
    assert "1 of 1 done" in result.stdout


def test_a_file_that_is_not_there(gaia: Gaia, install: Install) -> None:
    """A missing file is wrong usage; a misspelt command gets advice."""
    install()

    missing = gaia("batch", "no-such.jsonl")
    misspelt = gaia("batch", "statsu")

    assert (missing.exit_code, misspelt.exit_code) == (2, 2)
    assert "Usage: gaia batch [OPTIONS] FILE" in missing.stderr
    assert "Did you mean `gaia batch status`?" in misspelt.stderr


def test_a_file_may_be_called_like_a_command(
    gaia: Gaia, install: Install, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``./status`` is a file, and so is what stands behind an option."""
    install()
    folder = write(*SCENES, name="status").parent
    monkeypatch.chdir(folder)

    file = gaia("batch", "./status")
    behind = gaia("batch", "--max-concurrent", "2", "status")

    assert "3 of 3 done" in file.stdout
    assert "3 of 3 done" in behind.stdout


def test_options_are_checked(
    gaia: Gaia, install: Install, write: Write, tmp_path: Path
) -> None:
    """A bound of nothing and a folder that cannot be are wrong usage."""
    install()
    (tmp_path / "file").touch()

    none = gaia("batch", write(*SCENES), "--max-concurrent", 0)
    folder = gaia("batch", write(*SCENES), "-o", tmp_path / "file")

    assert (none.exit_code, folder.exit_code) == (2, 2)
    assert "cannot be made" in folder.stderr


def test_help_shows_the_options(gaia: Gaia) -> None:
    """The options of ``gaia batch FILE`` stand on its help page, with the commands."""
    result = gaia("batch", "--help")

    assert result.exit_code == 0
    for word in ("--max-concurrent", "--again", "status", "resume", "cancel", "FILE"):
        assert word in result.stdout


# -- copies -----------------------------------------------------------------------


def test_copies_bear_the_number_of_their_line(
    gaia: Gaia, install: Install, write: Write, tmp_path: Path
) -> None:
    """Further pictures of a line get a number behind it; nothing else lies there."""
    install()
    file = write(SCENES[0], {**SCENES[1], "num_images": 2}, SCENES[2])

    document = json.loads(gaia("batch", file, "-o", tmp_path / "out", "--json").stdout)
    outputs = [
        image["output"] for item in document["items"] for image in item["images"]
    ]

    names = ["0001.png", "0002.png", "0002-2.png", "0003.png"]
    assert outputs == [str(tmp_path / "out" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)


def test_copies_are_the_pictures(
    gaia: Gaia, install: Install, write: Write, tmp_path: Path
) -> None:
    """A copy holds the bytes of the store, and may be read by others like any file."""
    install()
    plain = tmp_path / "plain"
    plain.touch()

    gaia("batch", write(*SCENES), "-o", tmp_path / "out")
    copy = tmp_path / "out" / "0001.png"

    stored = {path.read_bytes() for path in (tmp_path / "store").rglob("*.png")}
    assert copy.read_bytes() in stored
    assert copy.stat().st_mode == plain.stat().st_mode


def test_copies_of_what_was_made_before(
    gaia: Gaia, install: Install, write: Write, tmp_path: Path
) -> None:
    """Copies can be had later, and wrong ones are put right."""
    install()
    file = write(*SCENES)
    gaia("batch", file)
    out = tmp_path / "out"
    out.mkdir()
    (out / "0002.png").write_bytes(b"something else")

    result = gaia("batch", file, "-o", out)

    assert result.exit_code == 0
    assert len(list(out.iterdir())) == 3
    assert Image.open(out / "0002.png").width == 16


def test_what_cannot_be_copied_is_told(
    gaia: Gaia, install: Install, write: Write, tmp_path: Path
) -> None:
    """A picture that is gone from the store is a warning, and the exit code 3."""
    install()
    file = write(*SCENES)
    gaia("batch", file)
    next((tmp_path / "store").rglob("*.png")).unlink()

    result = gaia("batch", file, "-o", tmp_path / "out")

    assert result.exit_code == 3
    assert "was not copied" in result.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_numbers_have_as_many_digits_as_they_need() -> None:
    """Files of a large batch sort by their line, too."""
    from gaia_core.capabilities import Capability
    from gaia_core.ledger import Operation

    item = Operation(id="0" * 32, capability=Capability.TEXT_TO_IMAGE, position=41)

    assert Copies(total=10_000)._number(item) == "00042"
    assert Copies(total=9_999)._number(item) == "0042"


# -- looking and calling off ------------------------------------------------------


def test_batches_are_listed(gaia: Gaia, install: Install, write: Write) -> None:
    """Without an identifier the latest batches are shown."""
    install()
    none = gaia("batch", "status")
    gaia("batch", write(*SCENES))

    listed = gaia("batch", "status")

    assert (none.exit_code, none.stdout) == (0, "")
    assert "no batch yet" in none.stderr
    assert "scenes.jsonl  finished  3 of 3 done, free" in listed.stdout


def test_a_batch_is_shown(gaia: Gaia, install: Install, write: Write) -> None:
    """With an identifier it is shown as it was when it ended."""
    install()
    run = gaia("batch", write(*SCENES))
    batch_id = _latest(gaia)[0]["batch_id"]

    shown = gaia("batch", "status", batch_id)
    document = json.loads(gaia("batch", "status", batch_id, "--json").stdout)

    assert shown.stdout == run.stdout
    assert document["batch_id"] == batch_id
    assert document["state"] == "finished"
    assert [item["line"] for item in document["items"]] == [1, 2, 3]


@pytest.mark.parametrize("command", ["status", "resume", "cancel"])
def test_an_unknown_batch_is_wrong_usage(
    gaia: Gaia, install: Install, command: str
) -> None:
    """An identifier of nothing is refused in words that help."""
    install()

    result = gaia("batch", command, "0" * 32)

    assert result.exit_code == 2
    assert "`gaia batch status` lists them" in result.stderr


def test_a_finished_batch_cannot_be_called_off(
    gaia: Gaia, install: Install, write: Write
) -> None:
    """Calling off what has ended changes nothing."""
    install()
    gaia("batch", write(*SCENES))
    batch_id = _latest(gaia)[0]["batch_id"]

    result = gaia("batch", "cancel", batch_id)

    assert result.exit_code == 0
    assert "3 of 3 done" in result.stdout


# -- making again -----------------------------------------------------------------

# Refuses dragons until a file says that it may draw them.
MOODY = """
    from pathlib import Path

    import attrs
    from gaia_core import ContentFilteredError, hookimpl
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        marker: str = ""
        price_usd: float = 0.2

        @hookimpl
        async def gaia_generate(self, request, context):
            if "dragon" in request.prompt and not Path(self.marker).exists():
                raise ContentFilteredError("No dragons here.")
            return await FakeProvider.gaia_generate(self, request, context)
"""


@pytest.fixture(name="allow")
def _allow(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Install a provider that draws no dragons; give what makes it draw them."""
    marker = tmp_path / "dragons"
    install(source=MOODY)
    monkeypatch.setenv("GAIA_PROVIDERS__STUDIO__MARKER", str(marker))
    return marker.touch


def test_what_failed_is_made_again(
    gaia: Gaia, allow: Callable[[], None], write: Write, tmp_path: Path
) -> None:
    """``resume --failed`` makes the failed lines only, under their own numbers."""
    out = tmp_path / "out"
    file = write(SCENES[0], {"prompt": "a dragon", **SMALL}, *SCENES[1:])
    first = json.loads(gaia("batch", file, "-o", out, "--json").stdout)
    shown = gaia("batch", file)
    still = gaia("batch", "resume", first["batch_id"], "--failed")
    allow()

    result = gaia("batch", "resume", first["batch_id"], "--failed", "-o", out)
    document = json.loads(gaia("batch", "status", "--json").stdout)["batches"][0]
    again = gaia("batch", "resume", first["batch_id"], "--failed")

    assert f"`gaia batch resume {first['batch_id']} --failed`" in shown.stderr
    assert re.search(r"^2 +failed", still.stdout, re.MULTILINE)
    assert result.exit_code == 0
    assert "1 of 1 done, $0.20" in result.stdout
    assert document["name"] == "scenes.jsonl (again)"
    assert sorted(path.name for path in out.iterdir()) == [
        f"000{number}.png" for number in (1, 2, 3, 4)
    ]
    assert again.exit_code == 0
    assert "made again already" in again.stderr
    assert len(_latest(gaia)) == 3


def test_nothing_failed(gaia: Gaia, install: Install, write: Write) -> None:
    """Where all is done there is nothing to make again, and that is said."""
    install()
    gaia("batch", write(*SCENES))
    batch_id = _latest(gaia)[0]["batch_id"]

    failed = gaia("batch", "resume", batch_id, "--failed")
    unknown = gaia("batch", "resume", batch_id, "--unknown")

    assert (failed.exit_code, unknown.exit_code) == (2, 2)
    assert "is cancelled or failed: none to make again" in failed.stderr
    assert "is unknown: none to make again" in unknown.stderr


def test_the_newest_batch_of_a_file_counts(
    gaia: Gaia, install: Install, write: Write
) -> None:
    """Made anew and ended, a file stands for its newest batch."""
    install()
    file = write(*SCENES)
    gaia("batch", file)
    gaia("batch", file, "--again")
    newest = _latest(gaia)[0]["batch_id"]

    result = gaia("batch", file)

    assert newest in result.stdout
    assert len(_latest(gaia)) == 2


def test_an_empty_key_is_refused(gaia: Gaia, install: Install, write: Write) -> None:
    """A key of nothing is a bad key like any other."""
    install()

    result = gaia("batch", write(*SCENES), "--key", "")

    assert result.exit_code == 2
    assert "1 to 255 bytes" in result.stderr
    assert _latest(gaia) == []


# -- processes --------------------------------------------------------------------


@pytest.fixture(name="slow")
def _slow(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a slow provider; give the file it writes down what it is asked for."""
    marker = tmp_path / "asked.txt"
    install(source=SLOW)
    monkeypatch.setenv("GAIA_PROVIDERS__STUDIO__MARKER", str(marker))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    return marker


@pytest.fixture(name="gate")
def _gate(slow: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file without which the slow provider answers nothing."""
    gate = slow.with_name("gate")
    monkeypatch.setenv("GAIA_PROVIDERS__STUDIO__GATE", str(gate))
    return gate


def _begin(*words: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*GAIA, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _wait_for(marker: Path) -> None:
    patience = time.monotonic() + 30
    while not marker.exists() and time.monotonic() < patience:
        time.sleep(0.02)
    assert marker.exists()


def test_ctrl_c_says_how_to_go_on(
    gaia: Gaia, slow: Path, gate: Path, write: Write, tmp_path: Path
) -> None:
    """What was sent is kept, what was not is made after ``resume``, nothing twice."""
    process = _begin("batch", write(*SCENES))
    _wait_for(slow)

    process.send_signal(signal.SIGINT)
    gate.touch()
    _, stderr = process.communicate(timeout=30)
    batch_id = _latest(gaia)[0]["batch_id"]
    resumed = gaia("batch", "resume", batch_id, "-o", tmp_path / "out")

    assert process.returncode == 130
    assert f"gaia batch resume {batch_id}".encode() in stderr
    assert b"Traceback" not in stderr
    assert resumed.exit_code == 0
    assert sorted(slow.read_text().split("\n")) == ["", "scene 0", "scene 1", "scene 2"]
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_what_to_type_comes_last(
    gaia: Gaia, slow: Path, gate: Path, write: Write, tmp_path: Path
) -> None:
    """The advice keeps the options, and how far the batch is stands before it."""
    out = tmp_path / "the pictures"
    process = _begin("batch", write(*SCENES), "-o", out, "--max-concurrent", 3)
    _wait_for(slow)

    process.send_signal(signal.SIGINT)
    gate.touch()
    _, stderr = process.communicate(timeout=30)
    batch_id = _latest(gaia)[0]["batch_id"]
    *_, tally, advice = stderr.decode().splitlines()

    assert tally.startswith(f"scenes.jsonl, batch {batch_id} (running): ")
    assert " of 3 done" in tally
    assert advice == (
        f"Nothing is lost. To go on: gaia batch resume {batch_id} "
        f"-o '{out}' --max-concurrent 3"
    )


def test_an_interrupted_document_names_the_batch(
    gaia: Gaia, slow: Path, gate: Path, write: Write
) -> None:
    """A program learns which batch was interrupted."""
    process = _begin("batch", write(*SCENES), "--json")
    _wait_for(slow)

    process.send_signal(signal.SIGINT)
    gate.touch()
    stdout, _ = process.communicate(timeout=30)

    assert json.loads(stdout)["batch_id"] == _latest(gaia)[0]["batch_id"]


def test_what_was_begun_anew_goes_on(
    gaia: Gaia, slow: Path, gate: Path, write: Write
) -> None:
    """Interrupted, a batch made anew is found by its file, with --again and without."""
    file = write(*SCENES)
    gate.touch()
    gaia("batch", file)
    gate.unlink()
    before = slow.read_text().count("scene")
    process = _begin("batch", file, "--again")
    while slow.read_text().count("scene") == before and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    gate.touch()
    process.communicate(timeout=30)

    again = gaia("batch", file, "--again")
    plain = gaia("batch", file)
    batches = _latest(gaia)

    assert process.returncode == 130
    assert "and goes on; nothing is made twice. --again makes it anew once" in (
        again.stderr
    )
    assert len(batches) == 2
    assert batches[0]["batch_id"] in plain.stdout
    assert "is finished" in plain.stderr
    assert slow.read_text().count("scene") == 2 * len(SCENES)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_what_failed_fits_the_terminal(
    gaia: Gaia, install: Install, write: Write, columns: int
) -> None:
    """An operation's identifier can be copied, however narrow the terminal is."""
    install(source=PICKY)
    file = write({"prompt": "a dragon", **SMALL})
    document = json.loads(gaia("batch", file, "--json").stdout)

    command = [*GAIA, "batch", "status", document["batch_id"]]
    shown = _on_terminal(command, columns=columns)

    assert document["items"][0]["operation_id"] in shown
    assert "No dragons here." in shown


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_list_fits_the_terminal(
    gaia: Gaia, install: Install, write: Write, columns: int
) -> None:
    """Nothing is cut or broken within a word, however narrow the terminal is."""
    install(source=PICKY)
    gaia("batch", write(*SCENES, {"prompt": "a dragon", **SMALL}))
    batch_id = _latest(gaia)[0]["batch_id"]

    shown = _on_terminal([*GAIA, "batch", "status"], columns=columns)
    words = " ".join(shown.split())

    for word in (batch_id, "scenes.jsonl", "finished", "3 of 4 done, 1 failed, $0.75"):
        assert word in words
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert all(len(line) <= columns for line in plain.splitlines())


def test_a_batch_is_called_off_from_elsewhere(
    gaia: Gaia, slow: Path, gate: Path, write: Write
) -> None:
    """Another process calls it off; the one at work ends with what it has."""
    process = _begin("batch", write(*SCENES))
    _wait_for(slow)

    cancelled = gaia("batch", "cancel", _latest(gaia)[0]["batch_id"])
    gate.touch()
    stdout, _ = process.communicate(timeout=30)
    again = gaia("batch", write(*SCENES))

    assert cancelled.exit_code == 0
    assert process.returncode in (1, 3)
    assert b"cancelled" in stdout
    assert "and was called off" in again.stderr
    assert again.exit_code == process.returncode


def test_what_providers_have_is_counted(
    gaia: Gaia, slow: Path, gate: Path, write: Write
) -> None:
    """Whoever looks at a batch is told how many items wait for an answer."""
    process = _begin("batch", write(*SCENES))
    _wait_for(slow)

    shown = gaia("batch", "status", _latest(gaia)[0]["batch_id"])
    gate.touch()
    process.communicate(timeout=30)

    assert re.match("[1-3] sent and not answered so far", shown.stderr)


def test_a_terminal_shows_how_far_it_is(slow: Path, write: Write) -> None:
    """A bar on standard error counts what is begun and what is done."""
    assert not slow.exists()

    shown = _on_terminal([*GAIA, "batch", str(write(*SCENES))])

    assert re.search("[0-2] of 3 done, [1-3] begun", shown)
    assert re.search("[12] of 3 done", shown)
    assert "3 of 3 done" in shown
    assert "0:00:" in shown


def _on_terminal(command: list[str], columns: int = 120) -> str:
    """Run a command on a terminal of its own; give what it shows there."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part
    process.wait(timeout=60)
    os.close(ours)
    return shown.decode(errors="replace")


def test_a_picture_may_stand_in_a_line(gaia: Gaia, install: Install) -> None:
    """A ``data:`` URI is a picture that needs no file."""
    import base64

    install()
    uri = f"data:image/png;base64,{base64.b64encode(png(16, 16)).decode()}"
    line = {"operation": "upscale", "image": uri, "upscale_factor": 2}

    result = gaia("batch", "-", stdin=json.dumps(line).encode())

    assert result.exit_code == 0
