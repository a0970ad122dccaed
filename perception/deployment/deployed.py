"""An export folder and a runtime as a model: its own preparing and decoding, any engine between."""
from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import nn

from ..core.contracts import Annotations, Batch, TaskOutput
from ..model import MultiTaskPerception, unflatten_outputs
from ..registry import MODELS, build_from_data, without_pretrained
from .engines import Engine, open_engine
from .export.graph import cut_clouds, graph_inputs
from .export.sidecar import SIDECAR_NAME, Sidecar
from .frames import blank_batch
from .memory import EngineMemory


def build_model(
    model_config: dict, checkpoint: str | Path | None = None, strict: bool = True
) -> MultiTaskPerception:
    """The model of a plain configuration in evaluation mode.

    Args:
        model_config: plain values.
        checkpoint: without one (None or 'none') weights are random, the same ones every time.
        strict: whether the checkpoint must have exactly the model's weights.
    """
    torch.manual_seed(0)
    model = MODELS.build(without_pretrained(model_config))
    if checkpoint not in (None, 'none'):
        from ..core.checkpoint import load_weights
        load_weights(model, checkpoint, strict=strict)
    return model.eval()


class DeployedModel(BaseModel):
    """A model whose network an engine computes; the model's own code prepares inputs and decodes outputs.

    Samples of a batch go one by one.

    Args:
        model: for preparing and decoding (its weights are not used unless the engine is torch).
        engine: what computes.
    """

    def __init__(self, model: MultiTaskPerception, engine: Engine) -> None:
        super().__init__()
        self.model = model.eval()
        self.engine = engine
        self.data_preprocessor = model.data_preprocessor
        self.remembered = EngineMemory(model)

    @property
    def memory(self) -> nn.Module | None:
        """The model's memory."""
        return self.model.memory

    def forget(self) -> None:
        """Start all drives over, see `MultiTaskPerception.forget`."""
        self.model.forget()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        engine: str = 'openvino',
        precision: str = 'fp32',
        checkpoint: str | Path | None = None,
        foreign: Collection[str] = (),
        device: str | None = None,
        **options: object,
    ) -> DeployedModel:
        """Open an export folder.

        Args:
            folder: of an export.
            engine: runtime, see `open_engine`.
            precision: of the engine.
            checkpoint: needed by the engine 'torch'; with any other it is checked to be the one that was
                exported.
            foreign: packages of `core.registered.FOREIGN_SCOPES` whose modules the sidecar may name; a caller
                who has the configuration gives `foreign_scopes(config.model)`.
            device: where the engine runs, see `open_engine`.
            options: of the engine's constructor.

        Raises:
            ValueError: a device that the engine does not know, files that do not belong together, or a
                sidecar that names what is not registered.
            EngineUnavailable: see `open_engine`.
        """
        sidecar = Sidecar.read(folder)
        where = f'{Path(folder) / SIDECAR_NAME}: model_config'
        model = build_from_data(sidecar.model_config, MODELS, where, foreign)
        if checkpoint is not None:
            from ..core.checkpoint import load_weights
            load_weights(model, checkpoint, strict=False)
            sidecar.check_weights(model, str(checkpoint))

        needed = model if engine == 'torch' else None
        opened = open_engine(engine, folder, precision, needed, device, **options)
        return cls(model, opened)

    def forward(
        self,
        inputs: Batch,
        data_samples: Sequence[Annotations] | None = None,
        mode: str = 'predict',
    ) -> list[TaskOutput]:
        """Predictions of a batch, `mode` 'predict' only: an engine is not trained.

        Raises:
            ValueError: another mode.
        """
        if mode != 'predict':
            raise ValueError(f"an engine has mode 'predict' only, found {mode!r}")
        outputs = [self.predict_one(inputs.select([b])) for b in range(len(inputs))]
        if self.memory is not None:
            self.remembered.streams.only(inputs.frames)
        return outputs

    def predict_one(self, batch: Batch) -> TaskOutput:
        """One sample -> its `TaskOutput`; of a model with a memory the next one of its drive."""
        inputs = self.remembered.recalled(graph_inputs(self.model, batch), batch.frames)
        raw = self.engine.infer(inputs)
        self.remembered.keep(raw, batch.frames, only=False)
        return self.decode(raw, batch)

    def warm_up(self) -> float:
        """Run everything once, so that the first real frame does not pay for what is compiled or allocated.

        A blank frame goes through preparing, engine and decoding, then noise through decoding alone, which
        reaches the loops that only full scenes do.

        Returns:
            How many seconds it took.
        """
        began = time.perf_counter()
        batch = blank_batch(tuple(self.model.encoders), self.engine.inputs)
        self.decode(self.engine.infer(graph_inputs(self.model, batch)), batch)

        rng = np.random.default_rng(0)
        noise = {spec.name: rng.standard_normal(spec.shape, np.float32) for spec in self.engine.outputs}
        self.decode(noise, batch)
        return time.perf_counter() - began

    def left_out(self) -> dict[str, int]:
        """What of the measurements did not reach the network so far: {kind: how many}."""
        cut = sum(cut_clouds(self.model).values())
        return {**getattr(self.data_preprocessor, 'left_out', {}), **({'cut clouds': cut} if cut else {})}

    @torch.no_grad()
    def decode(self, raw: dict[str, np.ndarray], batch: Batch, mask: bool = False) -> TaskOutput:
        """The raw outputs of one sample -> its `TaskOutput`; `mask` and errors as in the model's `decode`."""
        tensors = unflatten_outputs({name: torch.from_numpy(value) for name, value in raw.items()})
        return self.model.decode(tensors, batch, mask)[0]
