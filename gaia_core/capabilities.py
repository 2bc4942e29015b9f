"""What a provider can do."""

from enum import StrEnum


class Capability(StrEnum):
    """
    One thing a provider or a model can do.

    The values are the task names the field uses; they appear in settings, in
    ``--json`` output and over HTTP.

    >>> Capability("text-to-image") is Capability.TEXT_TO_IMAGE
    True
    """

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    INPAINTING = "inpainting"
    OUTPAINTING = "outpainting"
    UPSCALING = "upscaling"
    BACKGROUND_REMOVAL = "background-removal"
    PROMPT_ENHANCEMENT = "prompt-enhancement"
    IMAGE_DESCRIPTION = "image-description"


HOOK_OF = {
    Capability.TEXT_TO_IMAGE: "gaia_generate",
    Capability.IMAGE_TO_IMAGE: "gaia_generate",
    Capability.INPAINTING: "gaia_generate",
    Capability.OUTPAINTING: "gaia_generate",
    Capability.UPSCALING: "gaia_upscale",
    Capability.BACKGROUND_REMOVAL: "gaia_remove_background",
    Capability.PROMPT_ENHANCEMENT: "gaia_enhance_prompt",
    Capability.IMAGE_DESCRIPTION: "gaia_describe_image",
}
"""The hook that does the work of each capability."""
