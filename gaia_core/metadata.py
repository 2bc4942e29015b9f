"""
What Gaia writes into the pictures it encodes itself.

Three text chunks: ``parameters`` as AUTOMATIC1111's web UI writes them, ``gaia``
as JSON, and an XMP packet with the IPTC digital source type. None of them holds
a time or an operation: the same prompt and seed give the same bytes.
"""

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import attrs

from gaia_core.capabilities import Capability
from gaia_core.png import XMP_KEYWORD, read_text, with_metadata
from gaia_core.requests import GenerateRequest, Request
from gaia_core.results import DigitalSource, GeneratedImage

_XMP = (
    '<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '  <rdf:Description rdf:about=""'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">\n'
    "   <Iptc4xmpExt:DigitalSourceType>{uri}</Iptc4xmpExt:DigitalSourceType>\n"
    "  </rdf:Description>\n"
    " </rdf:RDF>\n"
    "</x:xmpmeta>\n"
    '<?xpacket end="r"?>'
)


@attrs.frozen(kw_only=True)
class Description:
    """
    How one picture was made, as far as known; what is None is left out.

    Attributes:
        provider: The provider that made it.
        model: The model that made it.
        width: Width in pixels.
        height: Height in pixels.
        source: How it came to be.
        prompt: What was asked for, style included.
        negative_prompt: What to avoid.
        seed: The seed that made it.
        steps: Denoising steps.
        guidance_scale: How closely the prompt was followed.
        strength: How far the start picture was left.
        scheduler: The noise schedule, as the provider spells it.
        version: Version of Gaia.
    """

    provider: str
    model: str
    width: int
    height: int
    source: DigitalSource = DigitalSource.TRAINED
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    strength: float | None = None
    scheduler: str | None = None
    version: str | None = None

    def without_prompt(self) -> "Description":
        """Leave out what was asked for, in every chunk."""
        return attrs.evolve(self, prompt=None, negative_prompt=None)


def annotate(
    image: GeneratedImage,
    *,
    request: Request,
    provider: str,
    model: str,
    keep_prompt: bool = True,
) -> bytes:
    """
    Write into a picture how it was made, if it is a PNG file.

    Only for a picture that was encoded in this process: writing into a
    provider's bytes destroys their provenance. A digital source type that the
    provider wrote itself stays.

    Args:
        image: The picture.
        request: What was asked for.
        provider: The provider that made it.
        model: The model that made it.
        keep_prompt: Whether the prompt may be written. If not, every other text
            in the file is left out too.

    Returns:
        The encoded picture: JPEG and WebP as they were.

    Raises:
        InvalidImageError: If the bytes are no sound picture.
    """
    if image.media_type != "image/png":
        return image.data
    description = describe(image, request=request, provider=provider, model=model)
    if image.digital_source is None:
        source = _source_within(image.data) or description.source
        description = attrs.evolve(description, source=source)
    return describe_png(image.data, description, keep_prompt=keep_prompt)


def describe(
    image: GeneratedImage,
    *,
    request: Request,
    provider: str,
    model: str,
) -> Description:
    """
    Say how a picture that answers a request was made.

    A provider that knows better, about the steps it really took for example,
    changes the value with `attrs.evolve`.

    Args:
        image: The picture.
        request: What was asked for.
        provider: The provider that made it.
        model: The model that made it.
    """
    facts = Description(
        provider=provider,
        model=model,
        width=image.width or 0,
        height=image.height or 0,
        source=image.digital_source or source_of(request),
        seed=image.seed,
        version=software_version(),
    )
    if not isinstance(request, GenerateRequest):
        return facts
    return attrs.evolve(
        facts,
        prompt=request.styled_prompt,
        negative_prompt=request.negative_prompt or None,
        seed=request.seed if image.seed is None else image.seed,
        steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        strength=request.strength,
        scheduler=_scheduler(request, provider),
    )


def describe_png(
    data: bytes, description: Description, *, keep_prompt: bool = True
) -> bytes:
    """
    Write a description into a PNG file.

    Args:
        data: The encoded picture.
        description: How it was made.
        keep_prompt: Whether the prompt may be written. If not, every other text
            in the file is left out too.

    Raises:
        InvalidImageError: If the bytes are no sound PNG file.
    """
    shown = description if keep_prompt else description.without_prompt()
    return with_metadata(data, text_chunks(shown), keep_others=keep_prompt)


def text_chunks(description: Description) -> Mapping[str, str]:
    """Write a description as the text chunks of a PNG file, by keyword."""
    return {
        "parameters": parameters(description),
        "gaia": gaia_json(description),
        XMP_KEYWORD: xmp(description.source),
    }


def parameters(description: Description) -> str:
    """
    Write a description as AUTOMATIC1111's web UI does.

    >>> print(parameters(Description(
    ...     provider="offline", model="tiles", width=512, height=512,
    ...     prompt="a keep", negative_prompt="fog", steps=4, seed=7)))
    a keep
    Negative prompt: fog
    Steps: 4, Seed: 7, Size: 512x512, Model: tiles
    """
    values = {
        "Steps": description.steps,
        "Sampler": description.scheduler,
        "CFG scale": description.guidance_scale,
        "Seed": description.seed,
        "Size": f"{description.width}x{description.height}",
        "Model": description.model,
        "Denoising strength": description.strength,
        "Version": description.version and f"Gaia {description.version}",
    }
    lines = [
        description.prompt,
        description.negative_prompt
        and f"Negative prompt: {description.negative_prompt}",
        ", ".join(
            f"{name}: {_quoted(value)}"
            for name, value in values.items()
            if value is not None
        ),
    ]
    return "\n".join(line for line in lines if line)


def gaia_json(description: Description) -> str:
    """
    Write a description as JSON, keys in order, in plain ASCII.

    >>> gaia_json(Description(provider="offline", model="tiles", width=8, height=8))
    '{"height":8,"model":"tiles","provider":"offline","source":"trainedAlgorithmicMedia","width":8}'
    """
    values = attrs.asdict(description, filter=lambda _, value: value is not None)
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def xmp(source: DigitalSource) -> str:
    """Write how a picture came to be as an XMP packet."""
    return _XMP.format(uri=source.uri)


def source_of(request: Request) -> DigitalSource:
    """Say how the answer to a request comes to be, if a trained model gives it."""
    if request.capability is Capability.TEXT_TO_IMAGE:
        return DigitalSource.TRAINED
    return DigitalSource.COMPOSITE


def software_version() -> str | None:
    """Return the version of Gaia, or None where it is not installed."""
    try:
        return version("gaia-core")
    except PackageNotFoundError:
        return None


def _source_within(data: bytes) -> DigitalSource | None:
    """Find what the provider wrote about how the picture came to be."""
    packet = read_text(data).get(XMP_KEYWORD, "")
    found = (source for source in DigitalSource if f">{source.uri}<" in packet)
    return next(found, None)


def _scheduler(request: GenerateRequest, provider: str) -> str | None:
    name = request.options_for(provider).get("scheduler")
    return name if isinstance(name, str) else None


def _quoted(value: object) -> str:
    """Quote a value the way the web UI does, so that its own reader finds it."""
    text = str(value)
    is_plain = not set(text) & set(",:\n") and not text.startswith('"')
    return text if is_plain else json.dumps(text, ensure_ascii=False)
