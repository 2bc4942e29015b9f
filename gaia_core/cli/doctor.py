"""``gaia doctor``: what works, what does not, what to do next."""

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from gaia_core import Gaia, SettingsError
from gaia_core.capabilities import Capability
from gaia_core.catalog import Health, HealthLevel, ModelInfo
from gaia_core.cli.failures import ExitCode
from gaia_core.cli.options import json_option
from gaia_core.cli.sessions import Session
from gaia_core.cli.tables import clean, plain_lines
from gaia_core.cli.work import INSTALL_EMBEDDED
from gaia_core.cli.writing import gaia_version, print_json, print_line

if TYPE_CHECKING:
    from gaia_core.plugins import PluginFailure, Plugins
    from gaia_core.settings import Settings

MEND_SETTING = "put the setting right; `gaia config path` names the file"
"""What to do about a setting that cannot be used."""

LONGEST_CHECK = 30.0
"""How long all health checks together may take, in seconds."""

SERVED_BY_EMBEDDED = frozenset(
    {
        Capability.TEXT_TO_IMAGE,
        Capability.UPSCALING,
        Capability.BACKGROUND_REMOVAL,
    }
)
"""What can be had without a key."""


@attrs.frozen(kw_only=True)
class Finding:
    """
    One thing the doctor looked at.

    Attributes:
        topic: What kind of thing: ``plugin``, ``provider``, ``capability``, ….
        name: Which one.
        is_ok: Whether it works.
        detail: What was found.
        next_step: What to do about it, or None.
    """

    topic: str
    name: str = ""
    is_ok: bool = True
    detail: str
    next_step: str | None = None


@click.command()
@click.option(
    "--online",
    "is_online",
    is_flag=True,
    help="Ask the providers whether they accept the keys; spends no money.",
)
@json_option
@click.pass_obj
def doctor(session: Session, *, is_online: bool, is_json: bool) -> int:
    """Check what works, what does not, and say what to do next."""
    session.silence()
    level = HealthLevel.AUTHORISED if is_online else HealthLevel.CONFIGURED
    findings = [*_versions(), *_examine(session, level)]
    can_generate = is_able_to_generate(findings)
    if is_json:
        document = {
            "can_generate": can_generate,
            "findings": [attrs.asdict(finding) for finding in findings],
        }
        print_json(document)
    else:
        _print(findings, can_generate=can_generate)
    return ExitCode.DONE if can_generate else ExitCode.FAILED


def is_able_to_generate(findings: Iterable[Finding]) -> bool:
    """Tell whether a picture could be made and kept."""
    ok = {(finding.topic, finding.name): finding.is_ok for finding in findings}
    needed = (("capability", Capability.TEXT_TO_IMAGE.value), ("image store", ""))
    return all(ok.get(key, False) for key in needed)


# -- looking ----------------------------------------------------------------------


def _versions() -> list[Finding]:
    return [
        Finding(topic="gaia", detail=gaia_version()),
        Finding(
            topic="python",
            detail=f"{sys.version.split()[0]} on {sys.platform}",
        ),
    ]


def _examine(session: Session, level: HealthLevel) -> list[Finding]:
    try:
        settings = session.settings()
        file = session.settings_file()
    except SettingsError as error:
        return [
            Finding(
                topic="settings",
                is_ok=False,
                detail=str(error),
                next_step=MEND_SETTING,
            )
        ]
    where = str(file) if file else "no file, which is fine"
    return [
        Finding(topic="settings", detail=where),
        examine_store(settings.image_store),
        *_examine_gaia(session, settings, level),
    ]


def examine_store(folder: Path) -> Finding:
    """Try to write into the image store."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"gaia")
            file.flush()
    except OSError as error:
        return Finding(
            topic="image store",
            is_ok=False,
            detail=f"{folder} cannot be written: {error.strerror}",
            next_step="make the folder writable, or set IMAGE_STORAGE_PATH",
        )
    return Finding(topic="image store", detail=f"{folder} can be written")


def _examine_gaia(
    session: Session, settings: "Settings", level: HealthLevel
) -> list[Finding]:
    async def work(gaia: Gaia) -> list[Finding]:
        health = await _check_health(gaia, level)
        models = await gaia.models()
        reasons = {info.name: info.unavailable for info in gaia.providers()}
        return [
            *examine_plugins(gaia.plugins),
            *examine_providers(reasons, health),
            *examine_capabilities(models, reasons, health),
        ]

    return session.run(work, settings)


async def _check_health(gaia: Gaia, level: HealthLevel) -> dict[str, Health]:
    try:
        async with asyncio.timeout(LONGEST_CHECK):
            return await gaia.check_health(level)
    except TimeoutError:
        reason = f"the checks took longer than {LONGEST_CHECK:g} s"
        late = Health(level=level, is_healthy=False, reason=reason)
        return dict.fromkeys(gaia.plugins.providers, late)


def examine_plugins(plugins: "Plugins") -> list[Finding]:
    """Say of every plugin how long it took to load, or why it did not."""
    loaded = [
        Finding(
            topic="plugin",
            name=one.plugin,
            is_ok=one.status == "loaded",
            detail=_loading(one.distribution, one.status, one.import_seconds),
        )
        for one in plugins.installed
        if one.status != "failed"
    ]
    failed = [
        Finding(
            topic="plugin",
            name=one.plugin,
            is_ok=False,
            detail=f"{one.distribution}: {one.reason}",
            next_step=_mend(one),
        )
        for one in plugins.failures
    ]
    return [*loaded, *failed]


def _mend(failure: "PluginFailure") -> str | None:
    """Say what to do about a plugin; the reason says it where it is not installed."""
    if failure.is_by_settings:
        return MEND_SETTING
    if failure.distribution == "not installed":
        return None
    return f"update or uninstall {failure.distribution.partition(' ')[0]}"


def _loading(distribution: str, status: str, seconds: float | None) -> str:
    took = "" if seconds is None else f" in {seconds * 1_000:.0f} ms"
    return f"{distribution}: {status}{took}"


def examine_providers(
    reasons: Mapping[str, str | None], health: Mapping[str, Health]
) -> list[Finding]:
    """Say of every provider whether it is healthy, or why it cannot work."""
    return [
        _examine_provider(name, reasons[name], health.get(name)) for name in reasons
    ]


def _examine_provider(
    name: str, unavailable: str | None, health: Health | None
) -> Finding:
    reason = unavailable or (health.reason if health else None)
    is_ok = unavailable is None and (health is None or health.is_healthy)
    if is_ok:
        level = health.level.value if health else "configured"
        return Finding(topic="provider", name=name, detail=level)
    detail = reason or "is not healthy"
    return Finding(topic="provider", name=name, is_ok=False, detail=detail)


def examine_capabilities(
    models: Sequence[ModelInfo],
    reasons: Mapping[str, str | None],
    health: Mapping[str, Health],
) -> list[Finding]:
    """Say of every capability who serves it, or how to get somebody who does."""
    return [_examine_capability(one, models, reasons, health) for one in Capability]


def _examine_capability(
    capability: Capability,
    models: Sequence[ModelInfo],
    reasons: Mapping[str, str | None],
    health: Mapping[str, Health],
) -> Finding:
    able = _unique(
        model.provider
        for model in models
        if capability in model.capabilities and model.kind == "image"
    )
    ready = [
        name
        for name in able
        if not reasons.get(name) and (name not in health or health[name].is_healthy)
    ]
    if ready:
        names = ", ".join(ready)
        return Finding(topic="capability", name=capability.value, detail=names)
    return Finding(
        topic="capability",
        name=capability.value,
        is_ok=False,
        detail="nobody serves it",
        next_step=_advice(capability, able),
    )


def _advice(capability: Capability, able: Sequence[str]) -> str:
    """Advise to mend what is installed, or to install what is not."""
    if able:
        return f"see to {' or '.join(able)} above"
    if capability in SERVED_BY_EMBEDDED:
        return INSTALL_EMBEDDED
    return "install a provider that can do it"


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


# -- showing ----------------------------------------------------------------------


def _print(findings: Sequence[Finding], *, can_generate: bool) -> None:
    rows = [
        ("ok" if one.is_ok else "no", one.topic, clean(one.name), clean(one.detail))
        for one in findings
    ]
    for line in plain_lines(rows):
        print_line(line)
    print_line()
    print_line(
        "Pictures can be made." if can_generate else "No picture can be made yet."
    )
    for line in next_steps(findings):
        print_line(f"  next: {line}")


def next_steps(findings: Iterable[Finding]) -> list[str]:
    """
    Say each step once, with all that it is for.

    >>> one = Finding(topic="capability", name="a", detail="no", next_step="do it")
    >>> next_steps([one, attrs.evolve(one, name="b")])
    ['do it (a, b)']
    """
    names: dict[str, list[str]] = {}
    for one in findings:
        if one.next_step is not None:
            names.setdefault(one.next_step, []).append(one.name or one.topic)
    return [clean(f"{step} ({', '.join(these)})") for step, these in names.items()]
