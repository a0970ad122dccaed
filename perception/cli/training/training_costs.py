"""What a whole training on nuScenes needs of eight GPUs, by count; printed by `profile-step --meta`."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY_FRAMES = 28_130
"""Of nuScenes' training split."""
BALANCED_SAMPLES = 123_580
"""An epoch of CBGS over it, as mmdet3d's `CBGSDataset` counts it (Zhu et al. 2019, arXiv 1908.09492)."""
GPUS = 8
PEAK_TFLOPS = {'A100': 312.0, 'H100': 989.0}
"""Dense bfloat16 of one, by its data sheet (SXM)."""
UTILISATION = 0.35
"""Share of the peak that is assumed; small convolutions and slow loaders leave less."""

TRAINING_TITLES = (
    f'| configuration | epochs | samples an epoch | {GPUS} x A100 h | {GPUS} x H100 h | GiB a GPU |\n'
    '|---|---|---|---|---|---|\n')


def training_costs(config: Any, step: Mapping[str, Any]) -> dict[str, Any]:
    """Hours and memory of a configuration's training.

    Args:
        config: its epochs, batch size and sampler.
        step: of `step_costs`, for one sample.

    Returns:
        `epochs`, `samples` of an epoch, `hours` by GPU at `UTILISATION`, and `gib` of one GPU: weights, AdamW
        and the step's peak times the batch, float32, without the libraries' own workspace.
    """
    loader, epochs = config['train_dataloader'], config['train_cfg']['max_epochs']
    balanced = loader['sampler']['type'] == 'ClassBalancedSampler'
    samples = BALANCED_SAMPLES if balanced else KEY_FRAMES

    total_tflop = (step['forward_tflop'] + step['backward_tflop']) * samples * epochs
    hours = {
        name: total_tflop / (UTILISATION * GPUS * peak) / 3600 for name, peak in PEAK_TFLOPS.items()}
    gib = step['state_gib'] + loader['batch_size'] * step['peak_gib']
    return {'epochs': epochs, 'samples': samples, 'hours': hours, 'gib': gib}


def format_training(name: str, row: Mapping[str, Any]) -> str:
    """A row of the table in docs/benchmarks/full_size.md."""
    hours = ' | '.join(f'{row["hours"][gpu]:.1f}' for gpu in PEAK_TFLOPS)
    return f'| `{name}` | {row["epochs"]} | {row["samples"]:,} | {hours} | {row["gib"]:.1f} |'
