"""Every system makes people: by name, from a run, from a published checkpoint, alone and refined."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import kouros
from kouros.body.keypoints import BLAZEPOSE33
from kouros.export.comparison import comparison_picture
from kouros.export.glb import glb_bytes
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.resnet import ResNet
from kouros.pipeline.comparing import compare
from kouros.pipeline.open import open_estimator, reconstructor_of
from kouros.pipeline.reconstructor import Reconstructor, default_reconstructor
from kouros.pipeline.upright import World
from kouros.systems.estimator import Estimate, PersonInPhoto, in_photo_camera
from kouros.systems.refined import Refined
from kouros.systems.spin import SpinConfig
from kouros.training.runs import RunFolder, write_config
from kouros.training.weights import Weights, learned_state, save_weights

DEMO = Path(kouros.__file__).parent / "data" / "demo" / "people.jpg"
HIP, SHOULDER = BLAZEPOSE33.index("left_hip"), BLAZEPOSE33.index("left_shoulder")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, free_body) -> Path:
    """A SPIN that learned nothing: near the mean pose, whatever it sees."""
    torch.manual_seed(0)
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "untrained")
    config = SpinConfig(backbone=18, crop_size=64)
    save_weights(folder.weights, Weights("spin", 0, learned_state(config.build(free_body, 0))))
    write_config(folder, config, {"body": None})
    return folder.path


@pytest.fixture(scope="module")
def seen() -> list[PersonInPhoto]:
    """The three people of the demo photo."""
    return default_reconstructor().see(DEMO)


def _off(person: kouros.Person) -> float:
    """Mean distance of hip and shoulder from where they were seen, over the person's box."""
    points = person.keypoints_2d("blazepose33")[[HIP, SHOULDER]]
    apart = (points - person.keypoints_detected[[HIP, SHOULDER], :2]).norm(dim=-1).mean()
    return float(apart / (person.box[2:] - person.box[:2]).max())


def test_a_run_makes_people_who_stand_where_they_were_found(run: Path, seen):
    reconstructor = reconstructor_of(run)
    people = reconstructor.people(seen)
    assert len(people) == 3 and reconstructor.estimator.name == "untrained"
    for person, there in zip(people, seen, strict=True):
        assert person is not None and _off(person) < 0.25
        assert_close(person.camera.focal_length, there.camera.focal_length)  # one photo, one camera
        assert 1 < float(person.transl[2]) < 20
        assert torch.isfinite(person.vertices).all()


def test_refining_brings_any_systems_bodies_onto_the_keypoints(run: Path, seen):
    plain, refined = (reconstructor_of(run, refine=refine).people(seen) for refine in (False, True))
    for before, after in zip(plain, refined, strict=True):
        assert before is not None and after is not None
        assert _off(after) < min(0.05, _off(before))


def test_the_default_is_the_learned_start_refined(seen):
    named, made = (reconstructor_of("learned-start", refine=r).people(seen) for r in (False, True))
    for person, start, refined in zip(default_reconstructor().people(seen), named, made, strict=True):
        assert person is not None and start is not None and refined is not None
        assert torch.equal(person.parameters.pose, refined.parameters.pose)
        assert person.uncertainty is not None and torch.equal(person.uncertainty, start.uncertainty)
        assert not torch.equal(person.parameters.pose, start.parameters.pose)


def test_the_public_function_takes_systems_by_name_and_folder(run: Path):
    for system in ("default", "mean-pose", run):
        assert len(kouros.reconstruct(DEMO, system=system)) == 3
    with pytest.raises(ValueError, match="there is no system 'nonsense'"):
        kouros.reconstruct(DEMO, system="nonsense")
    with pytest.raises(ValueError, match="gives points and no bodies"):
        kouros.reconstruct(DEMO, system="blazepose")


def test_a_published_checkpoint_is_a_system(tmp_path: Path, seen):
    torch.manual_seed(0)
    torch.save({"model": ResNet(18).state_dict() | HmrRegressor(512).state_dict()}, tmp_path / "spin.pt")
    estimator = open_estimator(tmp_path / "spin.pt")
    assert estimator.name == "spin" and not estimator.needs_keypoints
    assert all(e is not None and e.bodies is not None for e in estimator.estimate(seen))
    (tmp_path / "noise.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="expected a checkpoint of SPIN's network"):
        open_estimator(tmp_path / "noise.pt")


class Meshes:
    """Answers with the default's meshes and forgets the parameters."""

    name = "meshes"
    needs_keypoints = True
    points_3d = points_2d = None

    def __init__(self, default) -> None:
        self._default, self.body = default, default.body

    def estimate(self, people):
        answers = []
        for estimate in self._default.estimate(people):
            posed = estimate.bodies.map(lambda t: t[None]).posed_by(self.body)
            answers.append(Estimate(vertices=posed.vertices[0], joints=posed.joints[0], camera=estimate.bodies.camera))
        return answers


def test_meshes_that_no_parameters_made_get_a_rig_and_stay_as_they_are(seen):
    default = default_reconstructor()
    people = replace(default, estimator=Meshes(default.estimator)).people(seen[:1])
    (person,), (expected,) = people, default.people(seen[:1])
    assert person is not None and expected is not None
    assert_close(person.vertices, expected.vertices)
    rigged = person.parameters.map(lambda t: t[None]).posed_by(person.body).vertices[0]
    assert float((rigged - person.vertices).norm(dim=-1).mean()) < 2e-3
    assert len(glb_bytes([person], World.of_camera(1))) > 100_000


def test_meshes_that_no_parameters_made_are_refined_by_their_rig(seen, run: Path):
    untrained = open_estimator(run)
    (plain,) = Meshes(untrained).estimate(seen[:1])
    (refined,) = Refined(Meshes(untrained)).estimate(seen[:1])
    assert plain.bodies is None and refined.bodies is not None and refined.vertices is None
    detector = default_reconstructor().detector
    people = [
        Reconstructor(detector, estimator, untrained.body).people(seen[:1])[0]
        for estimator in (Meshes(untrained), Refined(Meshes(untrained)))
    ]
    assert _off(people[1]) < min(0.05, _off(people[0]))


def test_keypoints_alone_are_not_enough_for_who_looks_at_pictures(run: Path, seen):
    keypoints = seen[0].keypoints.numpy()
    with pytest.raises(ValueError, match="Give it the photo"):
        reconstructor_of(run).fit(keypoints, "blazepose33", image_size=seen[0].size)


def test_a_crops_body_appears_in_the_photos_camera_where_it_appeared_in_its_own(run: Path, seen):
    for person, estimate in zip(seen, open_estimator(run).estimate(seen), strict=True):
        assert estimate is not None and estimate.bodies is not None
        moved = in_photo_camera(estimate, person).bodies
        assert moved is not None
        pelvis = [b.camera.project(b.transl[None]) for b in (estimate.bodies, moved)]
        assert_close(pelvis[0], pelvis[1], atol=0.01, rtol=0)
        size = [float(b.camera.focal_length / b.transl[2]) for b in (estimate.bodies, moved)]
        assert size[0] == pytest.approx(size[1], rel=1e-4)
        again = in_photo_camera(in_photo_camera(estimate, person), person).bodies
        assert again is not None and torch.equal(again.transl, moved.transl)


def test_compared_systems_are_as_far_apart_as_their_joints(seen):
    systems = {name: reconstructor_of(name) for name in ("default", "learned-start", "mean-pose")}
    comparison = compare(systems, seen)
    apart = comparison.distances()
    assert (np.diag(apart) == 0).all() and np.allclose(apart, apart.T)
    assert 0 < apart[0, 1] < apart[0, 2]  # the fit moves its start less than anybody differs from the mean
    picture = comparison_picture(seen[0].image, comparison.people)
    third = picture.shape[1] // 3
    assert not np.array_equal(picture[40:, :third], picture[40:, -third:])
