"""The networks' files, shipped in the package or in a ``.task`` bundle that the user names, and how they are run."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kouros.archives import ArchiveError, read_members

_PACKAGED = Path(__file__).parent / "models"
_WHERE = "the MediaPipe Pose Landmarker page of Google AI Edge publishes such files (lite, full, heavy)"
_MAX_BYTES = 256 * 2**20
"""Of the two models; the heavy ones have 30 MB."""
_DETECTOR_INPUT = (1, 224, 224, 3)
_LANDMARK_INPUT = (1, 256, 256, 3)


@dataclass(frozen=True)
class ModelFiles:
    """Contents of the person detector's and the landmark model's ``.tflite`` files."""

    detector: bytes
    landmarks: bytes


@cache
def packaged_models() -> ModelFiles:
    """The models inside the package: MediaPipe's pose detector and its "full" landmark model."""
    return ModelFiles(
        (_PACKAGED / "pose_detection.tflite").read_bytes(),
        (_PACKAGED / "pose_landmark_full.tflite").read_bytes(),
    )


@dataclass(frozen=True)
class MoveNetFiles:
    """Contents of MoveNet's ``.tflite`` files, as `kouros.detection.movenet_build` writes them."""

    thunder: bytes
    multipose: bytes


THUNDER_FILE, MULTIPOSE_FILE = "movenet_thunder.tflite", "movenet_multipose.tflite"


@cache
def packaged_movenet() -> MoveNetFiles:
    """MoveNet's networks inside the package."""
    return MoveNetFiles((_PACKAGED / THUNDER_FILE).read_bytes(), (_PACKAGED / MULTIPOSE_FILE).read_bytes())


def read_task_file(path: str | Path) -> ModelFiles:
    """Models from a ``.task`` bundle, a zip of ``pose_detector.tflite``, ``pose_landmarks_detector.tflite``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a bundle.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {path}; {_WHERE}.")
    names = ("pose_detector.tflite", "pose_landmarks_detector.tflite")
    try:
        members = read_members(path, names, max_bytes=_MAX_BYTES)
    except ArchiveError as error:
        raise ValueError(f"{path} is not a .task bundle, a zip of two .tflite models ({error}); {_WHERE}.") from None
    if missing := [name for name in names if name not in members]:
        raise ValueError(f"{path} holds no {' and no '.join(missing)}: no pose landmarker bundle; {_WHERE}.")
    detector, landmarks = (bytes(members[name]) for name in names)
    return ModelFiles(detector, landmarks)


_MESSAGES_LOCK = threading.Lock()


@contextmanager
def _native_messages_hidden() -> Iterator[None]:
    """The runtime's C++ code greets on standard error, which no Python setting turns off; failures are raised."""
    with _MESSAGES_LOCK:  # or a second thread would keep, and restore, the first one's nowhere
        sys.stderr.flush()
        kept = os.dup(2)
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path of ours
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class Network:
    """One ``.tflite`` model, run on one image at a time, by any number of threads.

    The runtime's interpreters serve one thread each, so every thread that uses the network gets one of its own, at its
    first image: some 50 ms and twice the file's size. Batches were tried: the runtime is no faster on eight images at
    once than on eight one by one.

    Args:
        model: contents of the file.
        input_shape: of the image that it takes.
        outputs: how many numbers each of its answers has, in the order in which they are wanted. Published files differ
            in their order; of equally large ones the first in the file comes first.
        threads: CPU threads that one image occupies.

    Raises:
        ImportError: ai-edge-litert is not installed.
        ValueError: not such a model.
    """

    def __init__(self, model: bytes, input_shape: tuple[int, ...], outputs: tuple[int, ...], threads: int) -> None:
        self._model = model
        self._threads = threads
        self._of_this_thread = threading.local()
        interpreter = self._interpreter()
        (given,) = interpreter.get_input_details()[:1]
        details = interpreter.get_output_details()
        sizes = [int(np.prod(detail["shape"])) for detail in details]
        if tuple(given["shape"]) != input_shape or sorted(sizes) != sorted(outputs):
            raise ValueError(
                f"The model takes {tuple(given['shape'])} and gives outputs of {tuple(sizes)} numbers; "
                f"a pose model that takes {input_shape} and gives {outputs} was expected; {_WHERE}."
            )
        self._input = given["index"]
        self._outputs: list[int] = []
        for size in outputs:
            first = next(
                k for k, detail in enumerate(details) if sizes[k] == size and detail["index"] not in self._outputs
            )
            self._outputs.append(details[first]["index"])

    def _interpreter(self) -> Any:
        """This thread's own."""
        if not hasattr(self._of_this_thread, "interpreter"):
            try:
                from ai_edge_litert.interpreter import Interpreter
            except ImportError:
                raise ImportError(
                    "Finding people needs the package ai-edge-litert: pip install ai-edge-litert."
                ) from None
            try:
                with _native_messages_hidden():
                    interpreter = Interpreter(model_content=self._model, num_threads=self._threads)
                    interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise ValueError(f"The model file cannot be loaded ({error}); {_WHERE}.") from None
            self._of_this_thread.interpreter = interpreter
        return self._of_this_thread.interpreter

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """Outputs for one image (1, H, W, 3), in the order of sizes given when the network was loaded."""
        interpreter = self._interpreter()
        interpreter.set_tensor(self._input, image)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in self._outputs]


def detector_network(files: ModelFiles, threads: int) -> Network:
    """The person detector: 2254 anchors with 12 numbers and a score each."""
    return Network(files.detector, _DETECTOR_INPUT, (2254 * 12, 2254), threads)


def landmark_network(files: ModelFiles, threads: int) -> Network:
    """The landmark model: 39 landmarks of 5 numbers, flag, mask, 64 x 64 x 39 heatmaps, 39 metric points."""
    return Network(files.landmarks, _LANDMARK_INPUT, (195, 1, 256 * 256, 64 * 64 * 39, 117), threads)
