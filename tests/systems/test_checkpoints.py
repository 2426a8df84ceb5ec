"""Published checkpoints: the converted network gives the numbers of the original one, and other files are refused."""

import collections
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from kouros.networks.estimates import MeanParameters
from kouros.systems.checkpoints import read_published

BLOCKS = {1: (64, 3), 2: (128, 4), 3: (256, 6), 4: (512, 3)}


def spin_state(seed: int = 0) -> "collections.OrderedDict[str, Tensor]":
    """Random weights under the names and in the shapes that SPIN publishes."""
    generator = torch.Generator().manual_seed(seed)
    state: collections.OrderedDict[str, Tensor] = collections.OrderedDict()

    def conv(name: str, out: int, inputs: int, size: int) -> None:
        spread = (2 / (inputs * size * size)) ** 0.5
        state[f"{name}.weight"] = spread * torch.randn(out, inputs, size, size, generator=generator)

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{name}.bias"] = 0.2 * torch.randn(width, generator=generator)
        state[f"{name}.running_mean"] = 0.2 * torch.randn(width, generator=generator)
        state[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(name: str, out: int, inputs: int, gain: float = 1.0) -> None:
        state[f"{name}.weight"] = gain * inputs**-0.5 * torch.randn(out, inputs, generator=generator)
        state[f"{name}.bias"] = 0.05 * torch.randn(out, generator=generator)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    inputs = 64
    for layer, (width, blocks) in BLOCKS.items():
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            for number, (out, of, size) in enumerate(
                ((width, inputs, 1), (width, width, 3), (4 * width, width, 1)), start=1
            ):
                conv(f"{at}.conv{number}", out, of, size)
                norm(f"{at}.bn{number}", out)
            if block == 0:
                conv(f"{at}.downsample.0", 4 * width, inputs, 1)
                norm(f"{at}.downsample.1", 4 * width)
            inputs = 4 * width
    linear("fc1", 1024, 2048 + 157)
    linear("fc2", 1024, 1024)
    for name, out in (("decpose", 144), ("decshape", 10), ("deccam", 3)):
        linear(name, out, 1024, gain=0.1)
    first = torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(24)
    state["init_pose"] = (first + 0.2 * torch.randn(144, generator=generator))[None]
    state["init_shape"] = torch.randn(1, 10, generator=generator)
    state["init_cam"] = torch.tensor([[0.9, 0.0, 0.0]])
    return state


def original(state: dict[str, Tensor], picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SPIN's network, operation by operation, from the documentation of its checkpoints; float64."""
    s = {k: v.double() for k, v in state.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        scale = s[f"{name}.weight"] / (s[f"{name}.running_var"] + 1e-5).sqrt()
        shift = s[f"{name}.bias"] - scale * s[f"{name}.running_mean"]
        return x * scale[:, None, None] + shift[:, None, None]

    x = picture.double() - torch.tensor([0.485, 0.456, 0.406]).double()[:, None, None]
    x = x / torch.tensor([0.229, 0.224, 0.225]).double()[:, None, None]
    x = norm(F.conv2d(x, s["conv1.weight"], stride=2, padding=3), "bn1").clamp(min=0)
    x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for layer, (_, blocks) in BLOCKS.items():
        for block in range(blocks):
            at, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = norm(F.conv2d(x, s[f"{at}.conv1.weight"]), f"{at}.bn1").clamp(min=0)
            y = norm(F.conv2d(y, s[f"{at}.conv2.weight"], stride=stride, padding=1), f"{at}.bn2").clamp(min=0)
            y = norm(F.conv2d(y, s[f"{at}.conv3.weight"]), f"{at}.bn3")
            if block == 0:
                x = norm(F.conv2d(x, s[f"{at}.downsample.0.weight"], stride=stride), f"{at}.downsample.1")
            x = (x + y).clamp(min=0)
    features = x.flatten(2).mean(-1)
    pose, shape, cam = (s[f"init_{n}"].repeat(len(features), 1) for n in ("pose", "shape", "cam"))
    for _ in range(3):
        h = torch.cat([features, pose, shape, cam], 1) @ s["fc1.weight"].T + s["fc1.bias"]
        h = h @ s["fc2.weight"].T + s["fc2.bias"]
        pose = pose + h @ s["decpose.weight"].T + s["decpose.bias"]
        shape = shape + h @ s["decshape.weight"].T + s["decshape.bias"]
        cam = cam + h @ s["deccam.weight"].T + s["deccam.bias"]
    six = pose.reshape(-1, 24, 3, 2)
    first = six[..., 0] / six[..., 0].norm(dim=-1, keepdim=True)
    second = six[..., 1] - (first * six[..., 1]).sum(-1, keepdim=True) * first
    second = second / second.norm(dim=-1, keepdim=True)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1), shape, cam


@pytest.fixture(scope="module")
def state() -> "collections.OrderedDict[str, Tensor]":
    return spin_state()


def test_a_converted_network_gives_the_original_ones_numbers(state, free_body, tmp_path: Path):
    torch.save({"model": state, "epoch": 3, "dataset_perm": [2, 0, 1], "optimizer": {"state": {}}}, tmp_path / "c.pt")
    found = read_published(tmp_path / "c.pt")
    system = found.config.build(free_body, 0)
    system.load_state_dict(dict(found.tensors))
    picture = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    bodies = system.predict(picture).bodies
    rotations, betas, camera = original(state, picture)
    assert (camera - torch.tensor([0.9, 0.0, 0.0])).abs().max() > 0.05  # the weights do something
    assert (rotations[0] - rotations[1]).abs().max() > 0.01
    assert_close(bodies.rotations.double(), rotations, atol=1e-4, rtol=0)
    assert_close(bodies.betas.double(), betas, atol=1e-4, rtol=1e-4)
    assert_close(2 * 5000 / (224 * bodies.transl[:, 2].double()), camera[:, 0], atol=1e-4, rtol=1e-4)
    assert_close(bodies.transl[:, :2].double(), camera[:, 1:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "gen_state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module.", "head"])
def test_wrapped_prefixed_old_and_half_precision_files_are_read(state, tmp_path: Path, wrapper, prefix):
    def name(k: str) -> str:
        if prefix == "head":  # SPIN's descendants keep the regressor apart
            return k if re.match(r"conv1|bn1|layer", k) else f"regressor.{k}"
        return prefix + k

    changed = {name(k): v.half() if v.is_floating_point() else v for k, v in state.items() if "num_batches" not in k}
    changed[name("smpl.v_template")] = torch.zeros(5, 3)
    torch.save({wrapper: changed} if wrapper else changed, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    tensors = read_published(tmp_path / "c.pt").tensors
    assert_close(tensors["backbone.layer3.5.conv2.weight"], state["layer3.5.conv2.weight"].half().float())
    assert_close(tensors["regressor.decpose.bias"], state["decpose.bias"].half().float())
    assert tensors["backbone.bn1.num_batches_tracked"] == 0
    assert not any("smpl" in k for k in tensors)


def _without(state, *names):
    return {k: v for k, v in state.items() if k not in names}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {"fc.weight": torch.zeros(2, 2)}, "holds other weights (fc.weight)"),
        (lambda s: _without(s, "layer2.1.bn2.weight"), "lacks layer2.1.bn2.weight"),
        (lambda s: _without(s, "init_pose"), "lacks init_pose; give the file of mean parameters"),
        (lambda s: s | {"fc1.weight": torch.zeros(1024, 2048)}, "fc1.weight of"),
        (lambda s: s | {"decpose.weight": torch.zeros(72, 1024)}, "answers with 72 numbers for the pose"),
        (lambda s: s | {"encoder.gru.weight": torch.zeros(2)}, "more than SPIN's network: encoder.gru.weight"),
        (lambda s: s | {"deccam.bias": torch.tensor([0.0, torch.nan, 0.0])}, "deccam.bias of"),
        (lambda s: {k: v for k, v in s.items() if not k.startswith("layer3.5")}, "is no ResNet-18, 34, 50, 101"),
        (lambda s: {"model": 3}, "holds no weights by name"),
        (lambda s: [1, 2], "holds no weights by name"),
    ],
)
def test_what_is_no_such_network_is_refused_in_one_sentence(state, tmp_path: Path, change, says):
    # Of one number each: a hundred megabytes less to write.
    hollow = {k: v.flatten()[:1].clone()[0].expand(v.shape) for k, v in state.items()}
    torch.save(change(hollow), tmp_path / "c.pt")
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        read_published(tmp_path / "c.pt")
    assert "\n" not in str(error.value)


def test_a_file_without_first_guess_takes_the_given_one(state, tmp_path: Path):
    np.savez(tmp_path / "mean.npz", pose=np.arange(144.0), shape=np.ones(10), cam=np.array([0.8, 0.0, 0.1]))
    torch.save(_without(state, "init_pose", "init_shape", "init_cam"), tmp_path / "c.pt")
    tensors = read_published(tmp_path / "c.pt", MeanParameters.read(tmp_path / "mean.npz")).tensors
    assert_close(tensors["regressor.init_pose"], torch.arange(144.0)[None])
    assert_close(tensors["regressor.init_cam"], torch.tensor([[0.8, 0.0, 0.1]]))


class _Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps(_Evil(), protocol=2)])
def test_damaged_and_hostile_files_are_refused_and_do_nothing(tmp_path: Path, monkeypatch, content: bytes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.pt").write_bytes(content)
    torch.save({"model": {}, "evil": _Evil()}, tmp_path / "d.pt")
    for name in ("c.pt", "d.pt"):
        with pytest.raises(ValueError, match="is damaged or no file of weights"):
            read_published(tmp_path / name)
    assert not (tmp_path / "evil").exists()
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_published(tmp_path / "none.pt")
