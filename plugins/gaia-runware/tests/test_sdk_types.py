"""The catalogue, against the types of the SDK that is installed."""

import re
from functools import cache
from types import SimpleNamespace
from typing import Any

from gaia_runware import facts

COMMON = {
    "advancedFeatures",
    "deliveryMethod",
    "includeCost",
    "model",
    "numberResults",
    "outputFormat",
    "outputQuality",
    "outputType",
    "routing",
    "safety",
    "taskType",
    "taskUUID",
    "ttl",
    "uploadEndpoint",
    "webhookURL",
}
"""What every task of a kind may carry; ``models.json`` leaves it out."""


@cache
def declared() -> SimpleNamespace:
    """What the installed SDK declares: fields by model, and by architecture."""
    from runware.types import task_map

    by_model: dict[str, dict[str, Any]] = {}
    by_architecture: dict[str, dict[str, Any]] = {}
    for kind in vars(task_map).values():
        words = getattr(kind, "__doc__", None) or ""
        if not isinstance(kind, type) or not words.startswith("Inference params"):
            continue
        key = words.split("`")[1]
        where = by_architecture if "architecture" in words else by_model
        where[key] = dict(kind.__annotations__)
    return SimpleNamespace(
        models=task_map.models, fields=by_model, architectures=by_architecture
    )


def test_every_model_is_one_the_sdk_knows_under_this_task_and_name() -> None:
    """A model that the vendor takes away is noticed with the next SDK."""
    ours = {
        model_id: (entry["task"], entry["slug"])
        for model_id, entry in facts.entries().items()
    }

    theirs = {
        model_id: (known.task_type, known.id)
        for model_id, known in declared().models.items()
        if model_id in ours
    }

    assert ours == theirs


def test_every_field_is_one_the_sdk_declares() -> None:
    """A field that the vendor renames, adds or drops is noticed."""
    ours = {
        model_id: set(entry["fields"].split())
        for model_id, entry in facts.entries().items()
        if "fields" in entry
    }

    theirs = {
        model_id: set(declared().fields[model_id]) - COMMON - {"inputs"}
        | _inputs(fields)
        for model_id, fields in ours.items()
    }

    assert ours == theirs


def _inputs(fields: set[str]) -> set[str]:
    return {"inputs"} & fields


def test_pictures_go_only_to_models_that_declare_inputs() -> None:
    """The SDK has ``inputs`` for each model that this room sends pictures to."""
    wrong = [
        model_id
        for model_id, entry in facts.entries().items()
        if entry.get("inputs") and "inputs" not in declared().fields[model_id]
    ]

    assert wrong == []


def test_needing_pictures_is_what_the_sdk_says() -> None:
    """A model needs a picture when its ``inputs`` are required."""
    ours = {
        model_id: entry.get("needs_inputs", False)
        for model_id, entry in facts.entries().items()
        if "fields" in entry
    }

    theirs = {
        model_id: "inputs" in declared().fields[model_id]
        and not str(declared().fields[model_id]["inputs"]).count("NotRequired")
        for model_id in ours
    }

    assert ours == theirs


def test_architectures_take_what_the_sdk_declares() -> None:
    """Community checkpoints are judged by their architecture."""
    ours = {
        name: facts.facts_of_checkpoint("a:1@1", architecture=name).fields
        for name in facts.architectures()
        if name != facts.COMMUNITY
    }

    theirs = {name: declared().architectures[name].keys() - COMMON for name in ours}

    assert ours == theirs


def test_upscaling_factors_are_those_the_sdk_allows() -> None:
    """Where the SDK lists the factors, the card has them all and no others."""
    for model_id, entry in facts.entries().items():
        declared_as = str(declared().fields.get(model_id, {}).get("upscaleFactor", ""))
        listed = re.search(r"Literal\[([\d, ]+)\]", declared_as)
        if entry["task"] == "upscale" and listed:
            assert entry["factors"] == [int(word) for word in listed[1].split(",")]
