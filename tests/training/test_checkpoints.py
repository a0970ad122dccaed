"""Nothing good is lost: which checkpoint is gone on from, what may be written over, and who may write."""
from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from perception.core.checkpoint import read_checkpoint
from perception.core.processes import FolderInUseError, FolderLock, terminate_as_interrupt
from perception.training.launch import claim_work_dir
from perception.training.state.checkpoints import newest_checkpoint, spoiled_tensor, training_checkpoints
from tests.training.toy import ToyData, loader_of, toy_runner

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine asks compilers for their versions at every start."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


def hooks(**checkpoint: Any) -> dict[str, Any]:
    """A checkpoint after every step, with other options."""
    options = dict(type='CheckpointHook', by_epoch=False, interval=1) | checkpoint
    return dict(checkpoint=options, logger=dict(type='LoggerHook', interval=1))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth*'))


# -------------------------------------------------------------------- which one is gone on from

def write_checkpoint(path: Path, steps: int, **more: Any) -> None:
    torch.save({'state_dict': {}, 'meta': {'epoch': 0, 'iter': steps}, 'optimizer': {}} | more, path)


def test_the_newest_whole_checkpoint_is_found(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == (None, [])
    write_checkpoint(tmp_path / 'iter_9.pth', 9)
    write_checkpoint(tmp_path / 'epoch_2.pth', 10)
    torch.save({'state_dict': {}, 'meta': {'iter': 99}}, tmp_path / 'epoch_30.pth')  # weights alone
    (tmp_path / 'epoch_4.pth').write_bytes((tmp_path / 'epoch_2.pth').read_bytes()[:200])
    (tmp_path / 'best_score_epoch_9.pth').write_bytes(b'')

    found, notes = newest_checkpoint(tmp_path)
    assert found == tmp_path / 'epoch_2.pth'
    assert 'last_checkpoint: absent' in notes[0] and 'epoch_4.pth' in ' '.join(notes)
    assert 'epoch_30.pth: no state of the optimiser' in ' '.join(notes)

    # what the pointer names counts, and moves with the folder
    for named in ('iter_9.pth', '/elsewhere/iter_9.pth'):
        (tmp_path / 'last_checkpoint').write_text(named)
        assert newest_checkpoint(tmp_path) == (tmp_path / 'iter_9.pth', [])
    (tmp_path / 'last_checkpoint').write_text('epoch_4.pth')
    assert newest_checkpoint(tmp_path)[0] == tmp_path / 'epoch_2.pth'


def test_resume_needs_no_pointer(tmp_path: Path) -> None:
    toy_runner(tmp_path, train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1)).train()
    assert (tmp_path / 'last_checkpoint').read_text() == 'iter_5.pth'
    (tmp_path / 'last_checkpoint').unlink()
    before = (tmp_path / 'iter_5.pth').stat().st_mtime_ns

    runner = toy_runner(tmp_path, resume=True)
    runner.train()
    assert runner.iter == 10 and (tmp_path / 'iter_5.pth').stat().st_mtime_ns == before


def test_resume_in_an_empty_folder_starts(tmp_path: Path) -> None:
    runner = toy_runner(tmp_path, resume=True)
    runner.train()
    assert runner.iter == 10


def test_a_new_training_over_an_old_one_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / 'epoch_3.pth', 9)
    (tmp_path / 'best_score_epoch_1.pth').write_bytes(b'')
    with pytest.raises(FileExistsError, match='1 checkpoints of an earlier training.*epoch_3.*--overwrite'):
        claim_work_dir(tmp_path, resume=False, overwrite=False)
    claim_work_dir(tmp_path, resume=True, overwrite=False)
    assert training_checkpoints(tmp_path)
    claim_work_dir(tmp_path, resume=False, overwrite=True)
    assert names(tmp_path) == ['best_score_epoch_1.pth']


# -------------------------------------------------------------------- what is written, what is removed

def test_old_ones_go_when_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = toy_runner(tmp_path, default_hooks=hooks(max_keep_ckpts=1))
    seen: list[list[str]] = []
    replace = os.replace

    def listen(source: Any, target: Any) -> None:
        seen.append(names(tmp_path))
        replace(source, target)

    monkeypatch.setattr('os.replace', listen)
    runner.train()
    assert ['iter_3.pth', 'iter_4.pth.partial'] in seen and names(tmp_path) == ['iter_10.pth']


def test_the_best_one_before_stays_until_the_next_is_whole(tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    runner = toy_runner(tmp_path, default_hooks=hooks(interval=100, save_best='score', rule='greater'))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = []
    hook = next(hook for hook in runner.hooks if 'Checkpoint' in type(hook).__name__)
    runner.call_hook('before_run')
    hook.before_train(runner)
    hook.after_val_epoch(runner, {'score': 1.0})
    (first,) = names(tmp_path)

    def full(*args: Any, **words: Any) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    runner._train_loop._iter = 7
    with monkeypatch.context() as context:
        context.setattr('mmengine.runner.runner.save_checkpoint', full)
        with pytest.raises(OSError, match='best_score_iter_7.pth'):
            hook.after_val_epoch(runner, {'score': 2.0})
    assert names(tmp_path) == [first]
    hook.after_val_epoch(runner, {'score': 3.0})
    assert names(tmp_path) == ['best_score_iter_7.pth']


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Write half of a checkpoint whose name holds `at`, then no more."""
    from mmengine.runner.checkpoint import save_checkpoint

    def save(checkpoint: dict, filename: str, **words: Any) -> None:
        if at in filename:
            Path(filename).write_bytes(b'half')
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_checkpoint(checkpoint, filename, **words)

    monkeypatch.setattr('mmengine.runner.runner.save_checkpoint', save)


def test_a_full_disk_stops_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_the_disk(monkeypatch, 'iter_4')
    with pytest.raises(OSError, match='checkpoint not written: No space left on device.*iter_4.pth'):
        toy_runner(tmp_path, default_hooks=hooks()).train()
    assert names(tmp_path) == [f'iter_{i}.pth' for i in (1, 2, 3)]
    assert (tmp_path / 'last_checkpoint').read_text() == 'iter_3.pth'


def test_a_full_disk_is_survived_where_the_option_says_so(tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    fill_the_disk(monkeypatch, 'iter_4')
    runner = toy_runner(tmp_path, default_hooks=hooks(on_write_error='continue', max_keep_ckpts=2))
    runner.train()
    assert runner.iter == 10 and names(tmp_path) == ['iter_10.pth', 'iter_9.pth']


@pytest.mark.parametrize('choice', ['continue', 'stop'])
def test_a_log_that_cannot_be_written(tmp_path: Path, choice: str) -> None:
    runner = toy_runner(tmp_path, default_hooks=dict(
        logger=dict(type='LoggerHook', interval=1, on_write_error=choice), checkpoint=None))
    backend, = runner.visualizer._vis_backends.values()
    backend._scalar_save_file = '/dev/full'
    if choice == 'continue':
        runner.train()
        assert runner.iter == 10
    else:
        with pytest.raises(OSError, match='log: No space left'):
            runner.train()


def test_an_unknown_choice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_write_error: expected one of stop, continue, found 'skip'"):
        toy_runner(tmp_path, default_hooks=hooks(on_write_error='skip'))


def test_what_was_killed_while_writing_goes(tmp_path: Path) -> None:
    (tmp_path / 'iter_4.pth.partial').write_bytes(b'half')
    toy_runner(tmp_path, default_hooks=dict(checkpoint=None)).train()
    assert names(tmp_path) == []


@pytest.mark.parametrize('where', ['weight', 'optimiser'])
def test_what_is_not_finite_is_not_written_over_what_is(tmp_path: Path, where: str) -> None:
    runner = toy_runner(tmp_path, default_hooks=hooks(filename_tmpl='last_{}.pth'), custom_hooks=[])
    call_hook = runner.call_hook

    def spoil(name: str, **words: Any) -> None:
        if name == 'after_train_iter' and runner.iter == 3:
            with torch.no_grad():
                if where == 'weight':
                    runner.model.layers[0].weight[0, 0] = float('inf')
                else:
                    next(iter(runner.optim_wrapper.optimizer.state.values()))['exp_avg'].fill_(float('nan'))
        call_hook(name, **words)

    runner.call_hook = spoil
    spoiled = r'last_4.pth: (state_dict.layers.0.weight|optimizer.state.0)'
    with pytest.raises(FloatingPointError, match=spoiled):
        runner.train()
    assert names(tmp_path) == ['last_1.pth', 'last_2.pth', 'last_3.pth']
    assert spoiled_tensor(read_checkpoint(tmp_path / 'last_3.pth')) is None


def test_batch_statistics_that_are_not_finite_are_taken_back(tmp_path: Path) -> None:
    """One sample of 1e30: a finite loss would leave an infinite variance behind for ever."""
    class Absurd(ToyData):
        def __getitem__(self, number: int) -> dict:
            item = super().__getitem__(number)
            if self.drawn[-1][1] == 3:
                item['inputs'] = item['inputs'] * 1e30
            return item

    runner = toy_runner(
        tmp_path, train_dataloader=loader_of(dataset=Absurd(), batch_size=2), custom_hooks=[])
    runner.train()
    norm: nn.BatchNorm1d = runner.model.layers[1]
    assert torch.isfinite(norm.running_var).all() and norm.running_var.max() < 100
    assert runner.optim_wrapper.skipped == 2 and int(norm.num_batches_tracked) == 8


# -------------------------------------------------------------------- mmengine reads nothing on its own

def test_published_keys_are_published_and_read_safely(tmp_path: Path) -> None:
    toy_runner(tmp_path, default_hooks=hooks(interval=10, published_keys=['meta', 'state_dict'])).train()
    published, = tmp_path.glob('iter_10-*.pth')
    checkpoint = read_checkpoint(published)
    assert set(checkpoint) == {'meta', 'state_dict'} and 'generators' not in checkpoint['meta']


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.path,)


def test_no_function_of_mmengine_unpickles(tmp_path: Path) -> None:
    from mmengine.model import BaseModule
    from mmengine.runner import load_checkpoint
    weights, bomb = tmp_path / 'weights.pth', tmp_path / 'bomb.pth'
    layer = nn.Linear(2, 2)
    torch.save({'state_dict': layer.state_dict(), 'meta': {}}, weights)
    torch.save({'state_dict': layer.state_dict(), 'meta': Bomb(tmp_path / 'ran')}, bomb)

    class Module(BaseModule):
        def __init__(self, file: Path) -> None:
            super().__init__(init_cfg=dict(type='Pretrained', checkpoint=str(file)))
            self.weight, self.bias = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))

    module = Module(weights)
    module.init_weights()
    assert torch.equal(module.weight, layer.weight)
    for read in (lambda: Module(bomb).init_weights(), lambda: load_checkpoint(nn.Linear(2, 2), str(bomb))):
        with pytest.raises(ValueError, match='bomb.pth: expected a file of tensors and plain values'):
            read()
    assert not (tmp_path / 'ran').exists()


# -------------------------------------------------------------------- nothing to train on, two at once

@pytest.mark.parametrize('loop', [
    dict(type='EpochBasedTrainLoop', max_epochs=2), dict(by_epoch=True, max_epochs=2),
    dict(type='IterBasedTrainLoop', max_iters=4)])
def test_nothing_to_train_on_is_an_error(tmp_path: Path, loop: dict) -> None:
    loader = loader_of(dataset=ToyData(3), batch_size=4, drop_last=True)
    text = 'nothing to train on: 3 samples make no batch of 4 on 1 processes with drop_last=True'
    with pytest.raises(ValueError, match=text):
        toy_runner(tmp_path, train_dataloader=loader, train_cfg=loop).train()
    assert names(tmp_path) == []


def test_a_folder_belongs_to_one_training(tmp_path: Path) -> None:
    script = 'import sys; from perception.core.processes import FolderLock\n' \
        'lock = FolderLock(sys.argv[1], "training"); print("held", flush=True); input()'
    other = subprocess.Popen(
        [sys.executable, '-c', script, str(tmp_path)], cwd=ROOT, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == 'held\n'
        with pytest.raises(FolderInUseError, match=f'in use by training, process {other.pid} on'):
            toy_runner(tmp_path).train()
        with pytest.raises(FolderInUseError):
            claim_work_dir(tmp_path, resume=True, overwrite=False)
    finally:
        other.kill()
        other.wait()
    FolderLock(tmp_path, 'training').release()  # gone with its process
    FolderLock(tmp_path, 'training').release()


# -------------------------------------------------------------------- workers

class Waiting(ToyData):
    """Its second sample takes for ever."""

    def __getitem__(self, number: int) -> dict:
        if len(self.drawn):
            import time
            time.sleep(1000)
        return super().__getitem__(number)


def test_a_batch_that_never_comes_is_an_error(tmp_path: Path) -> None:
    loader = loader_of(dataset=Waiting(), num_workers=1, timeout=1)
    with pytest.raises(TimeoutError, match='no batch came.*1 seconds.*/dev/shm.*`timeout` of the loader'):
        toy_runner(tmp_path, train_dataloader=loader).train()


def test_a_worker_ends_with_its_parent() -> None:
    """The parent is killed; its child, which would sleep for ever, is gone."""
    script = """
import os, time
from perception.core.processes import die_with_parent
parent = os.getpid()
child = os.fork()
if not child:
    die_with_parent(parent)
    print(os.getpid(), flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, '-c', script], cwd=ROOT, text=True, stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == ''  # ends when the last process that has the pipe open does
    deadline_s = time.monotonic() + 5
    while Path(f'/proc/{child}/stat').exists() and time.monotonic() < deadline_s:
        if Path(f'/proc/{child}/stat').read_text().split(') ')[1][0] == 'Z':
            break  # dead, and nobody has asked for its status
        time.sleep(0.01)
    else:
        assert not Path(f'/proc/{child}').exists()


def test_sigterm_is_an_interrupt() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        terminate_as_interrupt()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_every_loader_has_an_end_to_waiting() -> None:
    from perception.training.loaders import TIMEOUT_S
    from perception.training.runner import PerceptionRunner
    make = PerceptionRunner.build_dataloader
    assert make(loader_of(num_workers=1)).timeout == TIMEOUT_S
    assert make(loader_of(num_workers=1, timeout=0)).timeout == 0
    assert make(loader_of()).timeout == 0  # without workers nobody waits
