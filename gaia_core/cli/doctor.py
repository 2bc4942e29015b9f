"""``gaia doctor``: what works, what does not, what to do next."""

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from gaia_core import Gaia, SettingsError
from gaia_core.capabilities import Capability
from gaia_core.catalog import Health, HealthLevel
from gaia_core.cli.examine import (
    examine_capabilities,
    examine_ledger,
    examine_plugins,
    examine_prices,
    examine_providers,
)
from gaia_core.cli.failures import ExitCode
from gaia_core.cli.findings import MEND_SETTING, Finding, next_steps
from gaia_core.cli.options import json_option
from gaia_core.cli.sessions import Session
from gaia_core.cli.tables import clean, plain_lines
from gaia_core.cli.writing import gaia_version, print_json, print_line

if TYPE_CHECKING:
    from gaia_core.settings import Settings

_INDENT = " " * 4
LONGEST_CHECK = 30.0
"""How long all health checks together may take, in seconds."""


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
    """Check what works, and say what to do next."""
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
    needed = (
        ("capability", Capability.TEXT_TO_IMAGE.value),
        ("image store", ""),
        ("ledger", ""),
    )
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
            next_step="make the folder writable, or set image_store to another one",
        )
    return Finding(topic="image store", detail=f"{folder} can be written")


def _examine_gaia(
    session: Session, settings: "Settings", level: HealthLevel
) -> list[Finding]:
    async def work(gaia: Gaia) -> list[Finding]:
        book = await examine_ledger(gaia.ledger, settings.database)
        health = await _check_health(gaia, level)
        models = await gaia.models()
        reasons = {info.name: info.unavailable for info in gaia.providers()}
        return [
            *book,
            *examine_plugins(gaia.plugins),
            *examine_providers(reasons, health),
            *examine_prices(settings, models),
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


# -- showing ----------------------------------------------------------------------


def _print(findings: Sequence[Finding], *, can_generate: bool) -> None:
    rows = [
        ("ok" if one.is_ok else "no", one.topic, clean(one.name), clean(one.detail))
        for one in findings
    ]
    for line, finding in zip(plain_lines(rows), findings, strict=True):
        print_line(line)
        for note in finding.notes:
            print_line(f"{_INDENT}{clean(note)}")
    print_line()
    print_line(
        "Pictures can be made." if can_generate else "No picture can be made yet."
    )
    for line in next_steps(findings):
        print_line(f"  next: {line}")
