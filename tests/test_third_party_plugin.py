"""A stranger's distribution: found, ranked, switched off, tested, contained."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from gaia_core import Gaia, GenerateRequest, NoCapableProviderError
from gaia_core.testing import FakeProvider

DRAGON = GenerateRequest(prompt="a red dragon", width=64, height=64)

PROVIDER = """
import attrs

from gaia_core import (
    Capability, GeneratedImage, ImageResult, ProviderInfo, hookimpl, setting,
)


@attrs.define(eq=False, kw_only=True)
class StrangeProvider:
    colour: str = setting(default="red")

    @hookimpl
    def gaia_provider_info(self):
        return ProviderInfo(
            name="strange", capabilities={Capability.TEXT_TO_IMAGE}, priority=50
        )

    @hookimpl
    async def gaia_generate(self, request, context):
        from gaia_core.testing import png

        images = [
            GeneratedImage(data=png(request.width, request.height, self.colour))
            for _ in range(request.num_images)
        ]
        return ImageResult(images=images, provider="strange", model=request.model)
"""

CONFORMANCE = """
import pytest
from gaia_strange import StrangeProvider
from gaia_core.testing.conformance import ProviderConformance


class TestConformance(ProviderConformance):
    @pytest.fixture
    def provider(self):
        return StrangeProvider()
"""

BROKEN = {
    "absent": "import a_package_nobody_has",
    "exits": "raise SystemExit('bye')",
    "hangs": "import time\ntime.sleep(60)",
    "syntax": "def broken(:",
    "nameless": "",
    "raises": """
        class Plugin:
            def __init__(self):
                raise RuntimeError("no device")
    """,
    "misspelt": """
        from gaia_core import Capability, ProviderInfo, hookimpl

        class Plugin:
            @hookimpl
            def gaia_provider_info(self):
                return ProviderInfo(name="misspelt", capabilities=())

            @hookimpl
            async def gaia_generat(self, request, context):
                pass
    """,
    "ancient": """
        from gaia_core import ProviderInfo, hookimpl

        class Plugin:
            @hookimpl
            def gaia_provider_info(self):
                return ProviderInfo(name="ancient", capabilities=(), contract=0)
    """,
    "equal": """
        import attrs
        from gaia_core import ProviderInfo, hookimpl

        @attrs.define
        class Plugin:
            @hookimpl
            def gaia_provider_info(self):
                return ProviderInfo(name="equal", capabilities=())
    """,
    "hookless": """
        class Plugin:
            pass
    """,
}
"""Plugin to the source of its module: every way to break at load."""

Install = Callable[[str, str, str], None]


@pytest.fixture(name="site")
def _site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that Python looks for distributions in."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture(name="install")
def _install(site: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a function that installs a distribution with one plugin."""

    def install(name: str, source: str, target: str) -> None:
        module = f"gaia_{name}"
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: gaia-{name}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[gaia]\n{name} = {module}:{target}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


@pytest.fixture(name="strange")
def _strange(install: Install) -> None:
    """Install the stranger's provider."""
    install("strange", PROVIDER, "StrangeProvider")


def _write_settings(*lines: str) -> None:
    """Write ``gaia.toml`` into the current folder, with a few lines more."""
    allow = ["strange", *BROKEN]
    Path("gaia.toml").write_text(
        "\n".join([f"[gaia.plugins]\nallow = {allow}\nload_timeout = 2.0", *lines])
    )


@pytest.mark.usefixtures("strange")
async def test_it_is_found_and_serves() -> None:
    """Installing the distribution is all it takes."""
    _write_settings()

    async with Gaia.open() as gaia:
        response = await gaia.generate(DRAGON)
        (plugin,) = [one for one in gaia.plugins.installed if one.plugin == "strange"]

    assert response.provider == "strange"
    assert plugin.distribution == "gaia-strange 1.0"
    assert plugin.status == "loaded"


@pytest.mark.usefixtures("strange")
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ["high", "strange", "low"]),
        (["[providers.strange]", "priority = 99"], ["strange", "high", "low"]),
        (["[providers.strange]", "priority = -1"], ["high", "low", "strange"]),
    ],
    ids=["its own rank", "raised", "lowered"],
)
async def test_it_is_ranked_by_priority(lines: list[str], expected: list[str]) -> None:
    """Its priority decides among the others, and the settings about its priority."""
    _write_settings(*lines)
    others = [
        FakeProvider(name="high", priority=60),
        FakeProvider(name="low", priority=40),
    ]

    async with Gaia.open(plugins=others) as gaia:
        plan = gaia.plan(DRAGON)

    assert [candidate.provider for candidate in plan.candidates] == expected


@pytest.mark.usefixtures("strange")
async def test_one_line_switches_it_off() -> None:
    """``enabled = false`` is enough, and the reason names the line."""
    _write_settings("[providers.strange]", "enabled = false")

    async with Gaia.open() as gaia:
        with pytest.raises(NoCapableProviderError) as caught:
            await gaia.generate(DRAGON)

    assert caught.value.reasons == {
        "strange": "switched off: [providers.strange] enabled = false"
    }


@pytest.mark.usefixtures("strange")
async def test_its_settings_reach_it() -> None:
    """Its section of the settings makes the picture another one."""
    _write_settings("[providers.strange]", 'colour = "navy"')

    async with Gaia.open() as gaia:
        response = await gaia.generate(DRAGON)

    from PIL import Image

    with Image.open(response.images[0].path) as picture:
        assert picture.getpixel((0, 0)) == (0, 0, 128)


@pytest.mark.usefixtures("strange")
def test_it_passes_the_conformance_suite(site: Path) -> None:
    """A stranger's suite runs as any author would run it."""
    (site / "test_strange.py").write_text(CONFORMANCE)
    (site / "pytest.ini").write_text("[pytest]\n")
    path = os.pathsep.join(filter(None, sys.path))

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_strange.py"],
        cwd=site,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.usefixtures("strange")
async def test_broken_plugins_harm_nobody(install: Install) -> None:
    """A broken plugin of each kind is named with its distribution; others work."""
    for name, source in BROKEN.items():
        install(name, source, "Plugin")
    _write_settings()

    async with Gaia.open() as gaia:
        response = await gaia.generate(DRAGON)
        failures = {one.plugin: one for one in gaia.plugins.failures}

    assert response.provider == "strange"
    assert set(failures) == set(BROKEN)
    for name, failure in failures.items():
        assert failure.distribution == f"gaia-{name} 1.0"
        assert failure.reason
