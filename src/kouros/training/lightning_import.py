"""Lightning, or a sentence that says how to get it. Lightning's own hints, which are not for our users, are off."""

import logging
import warnings

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
    from lightning.pytorch.plugins.io import TorchCheckpointIO
    from lightning.pytorch.strategies import DDPStrategy
except ImportError as error:
    raise ImportError("Training systems needs Lightning: pip install 'kouros[train]'.") from error

__all__ = [
    "Callback",
    "DDPStrategy",
    "LightningModule",
    "SLURMEnvironment",
    "TensorBoardLogger",
    "TorchCheckpointIO",
    "TorchElasticEnvironment",
    "Trainer",
    "quiet",
]


def quiet() -> None:
    """Keep Lightning's tips, and warnings about what we do on purpose, off the screen; errors still come as errors."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("lightning", "torchmetrics", "torch.utils.tensorboard"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
    # Which parameters a step leaves out differs between systems.
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
