"""
What is loaded: as many models as fit, the least recently used going first.

A component that several models have in common (text encoders, tokenizers, the
autoencoder) is in memory once, counted once, and stays while anybody uses it.
"""

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs
import torch

from gaia_core import Capability
from gaia_flux import loading, tuning
from gaia_flux.loading import Loaded, Wanted
from gaia_flux.memory import TILE, UNLIMITED, MemoryPlan, Mode

_MARGIN: Final = 0.06
"""Share of the free memory that is left alone: fragments, and the libraries' own."""
_CPU: Final = torch.device("cpu")


@attrs.define(eq=False, kw_only=True)
class Resident:
    """
    A loaded model.

    Attributes:
        spec: The model.
        family: Its family.
        components: What its pipelines are made of.
        keys: The keys of the components that may be shared.
        options: What else its pipelines are made with.
        plan: How it is held.
        device: Where it draws.
        dtype: Its precision.
        notes: What could not be done as asked when it was loaded.
    """

    spec: Any
    family: Any
    components: dict[str, Any]
    keys: Mapping[str, str]
    options: Mapping[str, Any]
    plan: MemoryPlan
    device: torch.device
    dtype: torch.dtype
    notes: tuple[str, ...] = ()

    def pipeline(self, capability: Capability) -> Any:
        """
        Make a pipeline over the components, with a scheduler of its own.

        Raises:
            ValueError: The family cannot do that.

        """
        kind = self.family.pipelines.get(capability)
        if kind is None:
            message = f"{self.spec.name} cannot do {capability}"
            raise ValueError(message)
        return loading.pipeline_of(kind, self.components, self.options)

    def hook(self, pipeline: Any) -> None:
        """Have a pipeline move its components about, where the plan wants that."""
        if self.plan.mode is Mode.MODEL_OFFLOAD:
            pipeline.enable_model_cpu_offload(device=self.device)

    @property
    def encoders(self) -> str:
        """Equal for models whose prompts are encoded by the same weights."""
        return "+".join(
            key
            for name, key in sorted(self.keys.items())
            if name.startswith(("text_encoder", "tokenizer"))
        )

    @property
    def is_on_device(self) -> bool:
        """Whether its weights stay on the device between two jobs."""
        return self.plan.mode is Mode.FULL

    def sizes(self) -> dict[str, int]:
        """Give the bytes of every module, by the key of the component."""
        return {
            key: size_of(self.components[name])
            for name, key in self.keys.items()
            if module_of(self.components[name]) is not None
        }

    def tile(self) -> int | None:
        """
        Decode in tiles where the plan says so, and in one piece where it does not.

        The autoencoder may be another model's, too, so this is said before each job.

        Returns:
            The side of the pictures that are still decoded in one piece; None without
            tiling.

        """
        vae: Any = self.components.get("vae")
        if not hasattr(vae, "enable_tiling"):
            return None
        if not self.plan.has_vae_tiling:
            vae.disable_tiling()
            return None
        side = min(TILE, int(vae.config.sample_size))
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        vae.tile_sample_min_size, vae.tile_latent_min_size = side, side // scale
        vae.enable_tiling()
        return side


def module_of(component: Any) -> torch.nn.Module | None:
    """Give the torch module of a component, also of one that spandrel wraps."""
    for each in (component, getattr(component, "model", None)):
        if isinstance(each, torch.nn.Module):
            return each
    return None


def size_of(component: Any) -> int:
    """Count the bytes of a component's parameters and buffers."""
    module = module_of(component)
    if module is None:
        return 0
    return sum(map(_bytes_of, (*module.parameters(), *module.buffers())))


def _bytes_of(tensor: Any) -> int:
    """Count what a tensor holds; a quantised one is made of others, and lies."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return int(tensor.nbytes)
    names, _ = tensor.__tensor_flatten__()
    return sum(_bytes_of(getattr(tensor, name)) for name in names)


def budget_of(device: torch.device, vram_gb: float | None) -> int:
    """Give the bytes models may take: as set, or what is free, less a margin."""
    if vram_gb is not None:
        return int(vram_gb * 2**30)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * (1 - _MARGIN))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() * (1 - _MARGIN))
    return UNLIMITED


def free_caches(device: torch.device) -> None:
    """Give memory that nobody refers to any more back to the device."""
    # Hooks and pipelines refer to each other in circles.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@attrs.define(eq=False, kw_only=True)
class Residence:
    """
    The loaded models of one device; used from one thread.

    Attributes:
        device: Where they draw.
        budget: Bytes of it that they may take.
        attention: The attention kernel.
        is_compiled: Whether their repeated blocks are compiled.
        evictions: How many had to go so far.
    """

    device: torch.device
    budget: int
    attention: str = "auto"
    is_compiled: bool = False
    evictions: int = 0
    _residents: OrderedDict[str, Resident] = attrs.field(
        factory=OrderedDict, init=False
    )

    def __iter__(self) -> Iterator[Resident]:
        """Go through the residents, the least recently used first."""
        return iter(tuple(self._residents.values()))

    def get(self, model: str) -> Resident | None:
        """Give a resident, which becomes the most recently used."""
        if model in self._residents:
            self._residents.move_to_end(model)
        return self._residents.get(model)

    def names(self) -> tuple[str, ...]:
        """Name the residents, the least recently used first."""
        return tuple(self._residents)

    def bytes(self) -> int:
        """Count the bytes of all residents together, shared ones once."""
        return sum(self._sizes(self._residents.values()).values())

    def add(self, wanted: Wanted, plan: MemoryPlan) -> Resident:
        """
        Load a model; others go first where there is not room for both.

        Raises:
            WeightsError: It cannot be loaded.

        """
        wanted = attrs.evolve(
            wanted, layout=_layout(plan), is_copied=self.device.type == "cpu"
        )
        keys = loading.keys_of(wanted)
        # Held on to, so that they stay when their last user goes to make room.
        kept = {key: self._shelf(key) for key in keys.values()}
        if self._residents.pop(wanted.spec.id, None) is not None:
            # It lay otherwise in memory, which has no room for both.
            free_caches(self.device)
        self.make_room(plan, keys=keys.values())
        loaded = loading.load(wanted, keys, kept.get)
        resident = self._placed(wanted, plan, loaded)
        self._residents[wanted.spec.id] = resident
        return resident

    def make_room(self, plan: MemoryPlan, *, keys: Iterable[str]) -> None:
        """
        Let residents go until a plan fits beside the others.

        Args:
            plan: Of the model that is about to draw.
            keys: Of its components: what it shares with others is counted once.

        """
        own = frozenset(keys)
        count = len(self._residents)
        for model in self.names():
            if self._is_in_the_way(self._residents[model], plan, own):
                self.drop(model, is_freed=False)
        if len(self._residents) < count:
            # Nothing here may refer to what has gone: it would not be freed.
            free_caches(self.device)

    def _is_in_the_way(
        self, resident: Resident, plan: MemoryPlan, own: frozenset[str]
    ) -> bool:
        if own == frozenset(resident.keys.values()):
            return False  # the model itself, or another one with all its weights
        # What is offloaded lies in main memory, which has room for one.
        is_second = not (resident.is_on_device or plan.mode is Mode.FULL)
        return is_second or self._beside(own) + plan.needed > self.budget

    def drop(self, model: str, *, is_freed: bool = True) -> None:
        """Let a resident go."""
        if self._residents.pop(model, None) is not None:
            self.evictions += 1
        if is_freed:
            free_caches(self.device)

    def clear(self) -> None:
        """Let all go."""
        self._residents.clear()
        free_caches(self.device)

    def _beside(self, own: frozenset[str]) -> int:
        """Count what residents take of the device beside a model's own components."""
        staying = [resident for resident in self if resident.is_on_device]
        sizes = self._sizes(staying)
        return sum(size for key, size in sizes.items() if key not in own)

    @staticmethod
    def _sizes(residents: Iterable[Resident]) -> dict[str, int]:
        found: dict[str, int] = {}
        for resident in residents:
            found |= resident.sizes()
        return found

    def _shelf(self, key: str) -> Any:
        for resident in self._residents.values():
            for name, own in resident.keys.items():
                if own == key:
                    return resident.components[name]
        return None

    def _placed(self, wanted: Wanted, plan: MemoryPlan, loaded: Loaded) -> Resident:
        resident = Resident(
            spec=wanted.spec,
            family=wanted.family,
            components=dict(loaded.components),
            keys=loaded.keys,
            options=loaded.options,
            plan=plan,
            device=self.device,
            dtype=wanted.dtype,
        )
        place(resident)
        if wanted.family.backbone in resident.components:
            resident.notes = tuning.apply_exact(
                resident, attention=self.attention, is_compiled=self.is_compiled
            )
        return resident


def _layout(plan: MemoryPlan) -> str:
    """Set apart what hooks move about from what stays where it is."""
    return "" if plan.mode is Mode.FULL else plan.mode.value


def place(resident: Resident) -> None:
    """Put a model's modules where its plan wants them."""
    for name, component in resident.components.items():
        module = module_of(component)
        if module is not None:
            _PLACES[resident.plan.mode](resident, name, module)


def _on_device(resident: Resident, _name: str, module: torch.nn.Module) -> None:
    module.to(resident.device)


def _left_to_pipelines(
    _resident: Resident, _name: str, module: torch.nn.Module
) -> None:
    # Each new pipeline hooks them anew: see `Resident.hook`.
    module.to(_CPU)


def _by_groups(resident: Resident, name: str, module: torch.nn.Module) -> None:
    if name == "vae":
        module.to(resident.device)
    elif name == "transformer":
        _offload(module, resident.device, is_by_blocks=True)
    else:
        _offload(module, resident.device, is_by_blocks=False)


def _by_layers(resident: Resident, _name: str, module: torch.nn.Module) -> None:
    _offload(module, resident.device, is_by_blocks=False)


_PLACES: Final[Mapping[Mode, Callable[[Resident, str, torch.nn.Module], None]]] = {
    Mode.FULL: _on_device,
    Mode.MODEL_OFFLOAD: _left_to_pipelines,
    Mode.GROUP_OFFLOAD: _by_groups,
    Mode.SEQUENTIAL: _by_layers,
}


def _offload(
    module: torch.nn.Module, device: torch.device, *, is_by_blocks: bool
) -> None:
    # Late: it belongs to diffusers' hooks, which few models need.
    from diffusers.hooks import apply_group_offloading  # noqa: PLC0415
    from diffusers.hooks.group_offloading import (  # noqa: PLC0415
        _is_group_offload_enabled,
    )

    if _is_group_offload_enabled(module):
        return  # shared, and hooked for another model already
    # A stream brings the next block while one computes. Only blocks: their order is
    # always the same, and a layer that comes out of turn would not be there.
    has_stream = is_by_blocks and device.type == "cuda"
    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=_CPU,
        offload_type="block_level" if is_by_blocks else "leaf_level",
        num_blocks_per_group=1 if is_by_blocks else None,
        non_blocking=has_stream,
        use_stream=has_stream,
        record_stream=has_stream,
    )
