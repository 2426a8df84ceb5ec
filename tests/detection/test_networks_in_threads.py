"""The networks in several threads at once: the numbers that one thread has."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from kouros.detection import PoseDetector, find_people
from kouros.detection.movenet import MultiPose, Thunder
from kouros.detection.regions import Pyramid, Region

THREADS, TIMES = 2, 6


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """What ``work(k)`` gives for several k, of which two always run at once."""
    together = threading.Barrier(THREADS)

    def begin_together(k: int) -> Any:
        together.wait(timeout=60)
        return work(k)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin_together, range(THREADS * TIMES)))


def test_movenet_sees_the_same_in_two_threads_as_in_one(portrait: np.ndarray):
    thunder, multipose = Thunder(threads=1), MultiPose(threads=1)
    pyramids = [Pyramid(np.ascontiguousarray(np.rot90(portrait, k))) for k in range(4)]
    places = [Region(p.width / 2, p.height / 2, float(p.height)) for p in pyramids]

    def see(k: int) -> np.ndarray:
        pyramid, region = pyramids[k % 4], places[k % 4]
        keypoints = thunder.look(pyramid, region)
        (first, *_) = multipose.find(pyramid, side=128)
        return np.concatenate([keypoints.points.ravel(), keypoints.confidence, first.points.ravel(), first.box])

    alone = [see(k) for k in range(4)]
    assert not np.array_equal(alone[0], alone[1])
    for k, seen in enumerate(in_threads(see)):
        np.testing.assert_array_equal(seen, alone[k % 4])


def test_people_are_found_by_one_detector_in_two_threads_as_in_one(portrait: np.ndarray):
    detector = PoseDetector(threads=1)
    photos = [portrait, np.ascontiguousarray(portrait[:, ::-1])]

    def find(k: int) -> np.ndarray:
        (person,) = find_people(photos[k % 2], tiles=False, crops=2, detector=detector)
        return person.keypoints_2d

    alone = [find(0), find(1)]
    for k, found in enumerate(in_threads(find)):
        np.testing.assert_array_equal(found, alone[k % 2])


def test_standard_error_is_there_again_when_threads_have_loaded_their_networks(
    portrait: np.ndarray, capfd: pytest.CaptureFixture[str]
):
    thunder = Thunder(threads=1)
    pyramid = Pyramid(portrait)
    in_threads(lambda k: thunder.look(pyramid, Region(256.0, 300.0, 600.0)))
    os.write(2, b"still here")
    assert "still here" in capfd.readouterr().err
