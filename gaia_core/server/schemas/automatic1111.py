"""What clients of AUTOMATIC1111 send, what else may be there, and what they get."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gaia_core.server.schemas.base import Given, Name
from gaia_core.server.schemas.images import Side

Text = Annotated[str, Field(max_length=8_000)]
"""A prompt; an empty one is refused by its own sentence."""
Picture = Annotated[str, Field(min_length=1)]
"""A picture in base64, or as a ``data:`` address."""

HARMLESS: Mapping[str, Any] = {
    "auth": None,
    "clip_skip": None,
    "comments": None,
    "disable_extra_networks": False,
    "distilled_cfg_scale": None,
    "do_not_save_grid": None,
    "do_not_save_samples": None,
    "eta": None,
    "firstphase_height": 0,
    "firstphase_width": 0,
    "force_task_id": None,
    "hr_additional_modules": None,
    "hr_cfg": None,
    "hr_checkpoint_name": None,
    "hr_distilled_cfg": None,
    "hr_negative_prompt": "",
    "hr_prompt": "",
    "hr_sampler_name": None,
    "hr_scheduler": None,
    "hr_second_pass_steps": 0,
    "hr_upscaler": None,
    "image_cfg_scale": None,
    "infotext": None,
    "initial_noise_multiplier": None,
    "inpaint_full_res": None,
    "inpaint_full_res_padding": None,
    "inpainting_fill": None,
    "latent_mask": "",
    "mask_blur_x": None,
    "mask_blur_y": None,
    "mask_round": None,
    "override_settings_restore_afterwards": None,
    "refiner_checkpoint": "",
    "refiner_switch_at": None,
    "resize_mode": 0,
    "restore_faces": False,
    "s_churn": None,
    "s_min_uncond": None,
    "s_noise": None,
    "s_tmax": None,
    "s_tmin": None,
    "sampler_index": None,
    "save_images": None,
    "scheduler": None,
    "script_args": None,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "styles": [],
    "subseed": None,
    "subseed_strength": 0,
    "tiling": False,
    "url": None,
}
"""
Fields that may be there and are not heeded, each with what says nothing.

None stands for any value: whatever is there, it changes nothing a client would see.
The others are told of in ``info`` when they say something.
"""


class WebUiIn(BaseModel):
    """What a client of the web UI sends: dozens of fields, most of them knobs."""

    model_config = ConfigDict(extra="allow", frozen=True)

    ignorable: ClassVar[Mapping[str, Any]] = HARMLESS

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, given: Any) -> Any:
        """Take null for a field that is not there."""
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}

    @property
    def unknown(self) -> list[str]:
        """The fields that nobody knows."""
        return sorted(set(self.model_extra or {}) - set(self.ignorable))

    @property
    def ignored(self) -> list[str]:
        """The fields that say something and are not heeded."""
        return sorted(
            name
            for name, value in (self.model_extra or {}).items()
            if (blank := self.ignorable.get(name)) is not None
            and value not in (blank, "", [], {}, 0)
        )


class DrawingIn(WebUiIn):
    """
    What drawing takes in both its forms.

    Attributes:
        prompt: What to draw.
        seed: -1: the provider chooses.
        sampler_name: Not heeded: every provider has its own.
        batch_size: How many pictures, times ``n_iter``.
        override_settings: ``sd_model_checkpoint``, for this request alone.
        send_images: Whether the pictures come along.
        campaign_id: The campaign it is kept and paid under: a field of Gaia's own.
    """

    prompt: Text = ""
    negative_prompt: Text = ""
    seed: Annotated[int, Field(ge=-1, le=2**63 - 1)] = -1
    width: Side = 512
    height: Side = 512
    steps: Annotated[int, Field(ge=1, le=500)] | None = None
    cfg_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    sampler_name: Annotated[str, Field(max_length=255)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=8)] = 1
    n_iter: Annotated[int, Field(ge=1, le=8)] = 1
    override_settings: dict[str, Any] = Field(default_factory=dict)
    script_name: Annotated[str, Field(max_length=255)] | None = None
    alwayson_scripts: dict[str, Any] = Field(default_factory=dict)
    send_images: bool = True
    campaign_id: Name | None = None


class Txt2ImgIn(DrawingIn):
    """
    Make pictures from words.

    Attributes:
        enable_hr: Whether to draw ``hr_scale`` times as large: at once, here.
        denoising_strength: Nothing without a picture.
    """

    enable_hr: bool = False
    hr_scale: Annotated[float, Field(ge=1, le=4)] = 2.0
    hr_resize_x: Annotated[int, Field(ge=0, le=8_192)] = 0
    hr_resize_y: Annotated[int, Field(ge=0, le=8_192)] = 0
    denoising_strength: Annotated[float, Field(ge=0, le=1)] | None = None


class Img2ImgIn(DrawingIn):
    """
    Make a picture from a picture, all over or where a mask is white.

    Attributes:
        init_images: The picture, one.
        mask: Where to repaint.
        inpainting_mask_invert: 1: where the mask is black.
        mask_blur: Not heeded.
    """

    init_images: Annotated[tuple[Picture, ...], Field(min_length=1, max_length=1)]
    denoising_strength: Annotated[float, Field(ge=0, le=1)] = 0.75
    mask: Picture | None = None
    mask_blur: Annotated[int, Field(ge=0, le=256)] | None = None
    inpainting_mask_invert: Annotated[int, Field(ge=0, le=1)] = 0
    include_init_images: bool = False


class ExtraIn(WebUiIn):
    """
    Work on a finished picture.

    Attributes:
        image: The picture.
        resize_mode: 0: ``upscaling_resize`` times as large; 1: to a width and height.
        upscaler_1: Who does it, by a name of ``/sdapi/v1/upscalers``.
        show_extras_results: Whether the picture comes along.
        campaign_id: The campaign it is kept and paid under: a field of Gaia's own.
    """

    ignorable: ClassVar[Mapping[str, Any]] = {
        "codeformer_visibility": 0,
        "codeformer_weight": None,
        "extras_upscaler_2_visibility": 0,
        "gfpgan_visibility": 0,
        "upscale_first": None,
        "upscaler_2": None,
        "upscaling_crop": None,
    }

    image: Picture
    resize_mode: Annotated[int, Field(ge=0, le=1)] = 0
    upscaling_resize: Annotated[float, Field(gt=0, le=8)] = 2.0
    upscaling_resize_w: Annotated[int, Field(ge=1, le=65_536)] = 512
    upscaling_resize_h: Annotated[int, Field(ge=1, le=65_536)] = 512
    upscaler_1: Annotated[str, Field(max_length=512)] = "None"
    show_extras_results: bool = True
    campaign_id: Name | None = None


class RembgIn(WebUiIn):
    """
    Cut out the subject, as the rembg extension does.

    Attributes:
        input_image: The picture.
        model: Any name but ``None``; a model of Gaia's own is asked exactly.
        return_mask: Whether the mask is given instead of the subject.
    """

    ignorable: ClassVar[Mapping[str, Any]] = {
        "alpha_matting": False,
        "alpha_matting_background_threshold": None,
        "alpha_matting_erode_size": None,
        "alpha_matting_foreground_threshold": None,
    }

    input_image: Picture
    model: Annotated[str, Field(max_length=512)] = "u2net"
    return_mask: bool = False
    campaign_id: Name | None = None


class InterrogateIn(WebUiIn):
    """Say in words what a picture shows."""

    ignorable: ClassVar[Mapping[str, Any]] = {"clip_model": None}

    image: Picture
    model: Annotated[str, Field(max_length=512)] = "clip"


class WebUiImagesOut(Given):
    """
    What was drawn.

    Attributes:
        images: The pictures in base64, as they were made.
        parameters: What was heeded of the request.
        info: JSON as text: seeds, size, model, and ``gaia``, of what it cost.
    """

    images: list[str]
    parameters: dict[str, Any]
    info: str


class WebUiImageOut(Given):
    """
    What was enlarged or cut out.

    Attributes:
        image: The picture in base64.
        html_info: Who made it, and what was not heeded.
        gaia: The operation, and what it cost.
    """

    image: str | None
    html_info: str = ""
    gaia: dict[str, Any]


class WebUiCaptionOut(Given):
    """What a picture shows, in words."""

    caption: str
    gaia: dict[str, Any]


class WebUiProgressOut(Given):
    """How far the caller's latest request is."""

    progress: float
    eta_relative: float
    state: dict[str, Any]
    current_image: str | None
    textinfo: str | None


class WebUiProblemOut(Given):
    """
    What went wrong.

    Attributes:
        error: Its code, as under ``/api``.
        detail: What a person reads.
        body: Nothing.
        errors: What is wrong with which field.
        gaia: The error as under ``/api``.
    """

    error: str
    detail: str
    body: str
    errors: str
    gaia: dict[str, Any]
