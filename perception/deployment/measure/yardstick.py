"""A public yardstick for one machine: a random network of BEVFormer-tiny's shape, in ONNX Runtime.

MLPerf Automotive times BEVFormer-tiny (Li et al., ECCV 2022, arXiv 2203.17270; the released configuration
`bevformer_tiny`): six images of 480x800, ResNet-50, one level of a pyramid, 50x50 queries of width 256
through three encoder layers (temporal self-attention, spatial cross-attention of four heights and eight
places), 900 object queries through six decoder layers. Weights are random, so it predicts nothing; what it
costs is what a network of that shape costs here. Shape letters beside the package's: Q queries, Z heights
above a cell.

Where the published code picks the queries that a camera sees, which depends on data, every query reads every
camera here and a mask leaves out what is not seen, as in every export of it. Places and mask are inputs.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...bev.backbones.fpn import FPN
from ...bev.backbones.resnet import ResNet
from ...bev.ops.deformable_attention import PlaceSampler, cell_centres, deformable_attention_grid_sample
from ..export.network import write_graph
from ..onnx_session import Arrays


@dataclass(frozen=True)
class YardstickShape:
    """The numbers of the released configuration; smaller ones are for tests.

    Attributes:
        image_hw: height and width of an image, pixels.
        cameras: number of images.
        depth: of the ResNet.
        cells: along one edge of the map from above.
        width: of maps and queries.
        feedforward: inner width.
        heights: Z, places above a cell.
        objects: queries of the decoder.
        layers: of encoder and decoder.
    """

    image_hw: tuple[int, int] = (480, 800)
    cameras: int = 6
    depth: int = 50
    cells: int = 50
    width: int = 256
    feedforward: int = 512
    heights: int = 4
    objects: int = 900
    layers: tuple[int, int] = (3, 6)


@dataclass(frozen=True)
class Yardstick:
    """The exported network, ready to be timed.

    Attributes:
        call: runs it once.
        gflop: of one pass, a multiply-add counted twice; sampling is not counted.
        parameters: how many weights.
    """

    call: Callable[[], object]
    gflop: float
    parameters: int


class SampledAttention(nn.Module):
    """Deformable attention whose queries, reference places and maps come from outside.

    Args:
        shape: of the network.
        query_width: channels of what offsets and weights are computed from.
        maps: how many maps are read, each with a softmax of its own.
        points: places a query and head reads in each.
    """

    def __init__(self, shape: YardstickShape, query_width: int, maps: int, points: int) -> None:
        super().__init__()
        self.sampler = PlaceSampler(query_width, 8, maps, points)
        self.value = nn.Conv2d(shape.width, shape.width, 1)
        self.out = nn.Linear(shape.width, shape.width)

    def forward(self, queries_BQC: Tensor, places_BQHLK2: Tensor, maps_BCYX: list[Tensor]) -> Tensor:
        """What the queries read around their places, before `out`: `(B, Q, C)`."""
        origin = places_BQHLK2.new_zeros(1, 1, 2)
        offsets, logits = self.sampler(queries_BQC, origin, [m.shape[-2:] for m in maps_BCYX])
        places = places_BQHLK2 + offsets

        # the batch of the maps: six cameras read with the same weights
        weights = logits.softmax(-1).expand(len(places), -1, -1, -1, -1)
        return deformable_attention_grid_sample([self.value(m) for m in maps_BCYX], places, weights)


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))


class EncoderLayer(nn.Module):
    """Temporal self-attention, spatial cross-attention, feed-forward; each added and normalised."""

    def __init__(self, shape: YardstickShape) -> None:
        super().__init__()
        self.cells = shape.cells
        self.temporal = SampledAttention(shape, 2 * shape.width, maps=2, points=4)
        self.spatial = SampledAttention(shape, shape.width, maps=1, points=2 * shape.heights)
        self.feedforward = FeedForward(shape.width, shape.feedforward)
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(3))

    def forward(
        self,
        queries_1QC: Tensor,
        earlier_1QC: Tensor,
        image_NCYX: Tensor,
        places_NQZ2: Tensor,
        seen_NQ1: Tensor,
    ) -> Tensor:
        """The queries of all cells after this layer, `(1, Q, C)`."""
        both = [self._map(earlier_1QC), self._map(queries_1QC)]
        own_1Q1112 = cell_centres((self.cells, self.cells), queries_1QC.device)[:, :, None, None, None]
        read = self.temporal(torch.cat([earlier_1QC, queries_1QC], -1), own_1Q1112, both) / 2
        queries_1QC = self.norms[0](queries_1QC + self.temporal.out(read))

        # two places at each height, the mean over the cameras that see the cell
        places = places_NQZ2.repeat(1, 1, 2, 1)[:, :, None, None]
        read_NQC = self.spatial(queries_1QC, places, [image_NCYX]) * seen_NQ1
        read_1QC = read_NQC.sum(0, keepdim=True) / seen_NQ1.sum(0, keepdim=True).clamp(min=1)
        queries_1QC = self.norms[1](queries_1QC + self.spatial.out(read_1QC))
        return self.norms[2](queries_1QC + self.feedforward(queries_1QC))

    def _map(self, queries_1QC: Tensor) -> Tensor:
        return queries_1QC.transpose(1, 2).unflatten(2, (self.cells, self.cells))


class DecoderLayer(nn.Module):
    """Self-attention of the objects, deformable attention on the map, feed-forward."""

    def __init__(self, shape: YardstickShape) -> None:
        super().__init__()
        self.project = nn.Linear(shape.width, 3 * shape.width)
        self.merge = nn.Linear(shape.width, shape.width)
        self.read = SampledAttention(shape, shape.width, maps=1, points=4)
        self.feedforward = FeedForward(shape.width, shape.feedforward)
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(3))

    def forward(self, objects_1QC: Tensor, places_1Q2: Tensor, bev_1CYX: Tensor) -> Tensor:
        """The objects after this layer, `(1, Q, C)`."""
        heads = self.project(objects_1QC).unflatten(-1, (3, 8, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2]).transpose(1, 2).flatten(2)
        objects_1QC = self.norms[0](objects_1QC + self.merge(mixed))

        read = self.read(objects_1QC, places_1Q2[:, :, None, None, None], [bev_1CYX])
        objects_1QC = self.norms[1](objects_1QC + self.read.out(read))
        return self.norms[2](objects_1QC + self.feedforward(objects_1QC))


class YardstickNetwork(nn.Module):
    """Images and the last map -> this map, classes and boxes, in BEVFormer-tiny's shape."""

    def __init__(self, shape: YardstickShape) -> None:
        super().__init__()
        self.backbone = ResNet(shape.depth, out_stages=(4,))
        self.neck = FPN(self.backbone.out_channels, shape.width)
        self.queries = nn.Embedding(shape.cells ** 2, shape.width)
        self.encoder = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.layers[0]))

        # objects: content, and where each begins
        self.objects = nn.Embedding(shape.objects, shape.width)
        self.places = nn.Embedding(shape.objects, 2)
        self.decoder = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.layers[1]))
        self.classes = nn.ModuleList(_branch(shape.width) for _ in self.decoder)
        self.boxes = nn.ModuleList(_branch(shape.width) for _ in self.decoder)

    def forward(
        self, images_N3HW: Tensor, places_NQZ2: Tensor, seen_NQ1: Tensor, earlier_1QC: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The map `(1, Q, C)`, class logits `(1, objects, 10)` and boxes `(1, objects, 10)`."""
        image_NCYX = self.neck(self.backbone(images_N3HW))[0]
        bev_1QC = self.queries.weight[None]
        for layer in self.encoder:
            bev_1QC = layer(bev_1QC, earlier_1QC, image_NCYX, places_NQZ2, seen_NQ1)

        edge = round(bev_1QC.shape[1] ** 0.5)
        bev_1CYX = bev_1QC.transpose(1, 2).unflatten(2, (edge, edge))
        objects_1QC, places_1Q2 = self.objects.weight[None], self.places.weight.sigmoid()[None]
        for layer, classes, boxes in zip(self.decoder, self.classes, self.boxes, strict=True):
            objects_1QC = layer(objects_1QC, places_1Q2, bev_1CYX)
            logits, box = classes(objects_1QC), boxes(objects_1QC)
            places_1Q2 = (torch.logit(places_1Q2, eps=1e-5) + box[..., :2]).sigmoid()
        return bev_1QC, logits, box


def _branch(width: int) -> nn.Sequential:
    hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def yardstick_inputs(shape: YardstickShape, seed: int = 0) -> Arrays:
    """Noise in the place of images, and cells of which a camera sees one in five or so."""
    rng = np.random.default_rng(seed)
    cells, n = shape.cells ** 2, shape.cameras
    return {
        'images': rng.standard_normal((n, 3, *shape.image_hw), np.float32),
        'places': rng.random((n, cells, shape.heights, 2), np.float32),
        'seen': (rng.random((n, cells, 1)) < 0.2).astype(np.float32),
        'earlier': rng.standard_normal((1, cells, shape.width), np.float32),
    }


def make_yardstick(folder: str | Path, threads: int = 0, shape: YardstickShape | None = None) -> Yardstick:
    """Build the network, write it as `yardstick.onnx` and open it in ONNX Runtime on the processor.

    Args:
        folder: for the file.
        threads: of ONNX Runtime; 0 leaves the choice to it.
        shape: the released one by default.
    """
    shape = shape or YardstickShape()
    torch.manual_seed(0)
    network = YardstickNetwork(shape).eval().requires_grad_(False)
    inputs = yardstick_inputs(shape)

    path = Path(folder) / 'yardstick.onnx'
    write_graph(network, inputs, ('bev', 'classes', 'boxes'), path, opset=18)
    session = _open(path, threads)
    return Yardstick(
        lambda: session.run(None, inputs), yardstick_gflop(shape),
        sum(parameter.numel() for parameter in network.parameters()))


def yardstick_gflop(shape: YardstickShape) -> float:
    """Floating-point operations of one pass, 1e9; counted on tensors without values."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode
    shapes = [value.shape for value in yardstick_inputs(shape).values()]
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        YardstickNetwork(shape).eval()(*map(torch.empty, shapes))
    return counter.get_total_flops() / 1e9


def _open(path: Path, threads: int) -> object:
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
