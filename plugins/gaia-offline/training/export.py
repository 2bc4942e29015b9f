"""
Write the files that the distribution ships from a training run.

    python export.py RUN WEIGHTS_FOLDER

puts tiles.onnx (weights stored as 16-bit floats, computed as 32-bit ones) and
tiles-vocabulary.json into WEIGHTS_FOLDER.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path

import numpy as np
import onnx
import torch
from network import MOST_WORDS, Network
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
_SMALL = 256
"""Tensors of up to so many numbers stay 32-bit: they cost nothing."""


def export(network: Network, target: Path) -> None:
    """Write the network as ONNX for any number of pictures at once."""
    example = (
        torch.zeros(2, 4, 32, 32),
        torch.zeros(2),
        torch.zeros(2, MOST_WORDS, dtype=torch.long),
    )
    names = ("mixture", "level", "words", "flow")
    torch.onnx.export(
        network,
        example,
        str(target),
        input_names=list(names[:3]),
        output_names=[names[3]],
        dynamic_axes={name: {0: "pictures"} for name in names},
        opset_version=17,
        dynamo=False,
    )


def halve(path: Path) -> None:
    """Store large tensors as 16-bit floats, cast back when the model loads."""
    model = onnx.load(path)
    graph = model.graph
    stored, casts = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size <= _SMALL:
            stored.append(tensor)
            continue
        name = f"{tensor.name}_16"
        stored.append(numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(
            helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(stored)
    graph.node.extend(nodes)
    for node in graph.node:
        node.ClearField("doc_string")
    onnx.checker.check_model(model)
    onnx.save(model, path)


def vocabulary(words: list[str]) -> dict[str, object]:
    """What the run time needs to turn a prompt into word numbers."""
    spoken = tomllib.loads((HERE / "spoken.toml").read_text())
    concepts = tomllib.loads((HERE / "concepts.toml").read_text())["concept"]
    known = set(words)
    synonyms = {
        said: word
        for word, others in spoken["synonyms"].items()
        for said in others
        if word in known
    }
    return {
        "words": words,
        "concepts": {concept["word"]: concept["usual"] for concept in concepts},
        "colours": [colour for colour in spoken["colours"] if colour in known],
        "synonyms": dict(sorted(synonyms.items())),
        "ignored": spoken["ignored"],
    }


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("weights", type=Path)
    options = parser.parse_args()
    words = json.loads((options.run / "vocabulary.json").read_text())
    network = Network(len(words))
    network.load_state_dict(torch.load(options.run / "average.pt"))
    network.eval()
    options.weights.mkdir(parents=True, exist_ok=True)
    export(network, options.weights / "tiles.onnx")
    halve(options.weights / "tiles.onnx")
    text = json.dumps(vocabulary(words), indent=0)
    (options.weights / "tiles-vocabulary.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
