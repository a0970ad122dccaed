"""Arguments that no tool can use: each is refused by name, before anything is built."""
from __future__ import annotations

import re

import pytest

from perception.cli import commands
from tests.cli.pages import ROOT

DEBUG = str(ROOT / 'configs' / 'debug.py')

# the verb, its words, what the last line says
REFUSED = [
    ('doctor --version', 'expected one argument'),
    ('make-world --out w --scenes 0', "argument --scenes: .* of at least 1, found '0'"),
    ('make-world --out w --scenes 1 --image-size 10', "image-size: found '10', expected HEIGHTxWIDTH"),
    ('make-world --out w --scenes 1 --lidar-sweeps 20', 'lidar-sweeps: found 20, expected 0 to 9'),
    ('make-world --out w --scenes 1 --key-frames 0', 'key-frames: found 0, expected 1 to 40'),
    ('make-world --out w --scenes 2 --rig none.json', 'none.json'),
    ('create-data nuscenes --root none --version v1.0-mini', 'none/v1.0-mini'),
    ('create-data nuscenes --root none --version v1.0-mini --shard 4/4', 'expected i/n with i < n'),
    ('create-data nuscenes --root none --version v1.0-mini --workers 0', 'argument --workers'),
    ('create-data paste none.py', 'config none.py: no such file'),
    ('create-data paste {debug}', 'data/world/infos/v1.0-trainval'),
    ('create-data paste {debug} --per-class 0', 'argument --per-class'),
    ('import-rig --frames none.urdf --out o', 'expected a sensor: --camera, --lidar or --radar'),
    ('import-rig --frames none.urdf --out o --camera A=none.yaml:a', 'none.urdf: found no such file'),
    ('import-drive none.mcap', 'give --mapping and --out, or --list, or --suggest FILE'),
    ('export-drive none --version v --out o --repeat 0', 'argument --repeat'),
    ('make-occupancy --root none --version v1.0-mini', 'none/infos/v1.0-mini'),
    ('make-occupancy --root none --version v1.0-mini --sweeps -1', "at least 0, found '-1'"),
    ('mmdet3d-infos import none.pkl --split val --out o', 'none.pkl'),
    ('mmdet3d-infos export none --split val --out o', 'none'),
    ('world-statistics none', "expected ROOT:VERSION, found 'none'"),
    ('world-statistics none:v1.0-mini', 'none/v1.0-mini'),

    ('train none.py', 'config none.py: no such file'),
    ('train {debug} --cfg-options modle=1', "modle: .* did you mean 'model'"),
    ('train {debug} --cfg-options model', "expected KEY=VALUE, found 'model'"),
    ('train {debug} --resume none.pth', 'none.pth'),
    ('compare-systems --steps 0', 'argument --steps'),
    ('compare-systems --steps 1 --list none.py', 'none.py'),
    ('compare-systems --steps 1 --rows nobody', 'nobody'),
    ('extract-weights none.pth --out o', 'checkpoint none.pth: no such file'),
    ('import-weights {debug} none.pth --source centerpoint --out o', 'checkpoint none.pth: no such file'),
    ('profile-step {debug} --steps 0', 'argument --steps'),
    ('profile-step {debug}', 'data/world/infos/v1.0-trainval'),
    ('merge-models {debug} --models a --out o', "expected TASK=FILE, each task once, found 'a'"),
    ('merge-models {debug} --models a={debug} c=none.pth --out o', '--models: c: none.pth: no such file'),
    ('merge-models {debug} --out o', 'expected --models, or at least two checkpoints'),
    ('merge-models {debug} {debug} --models a=b c=d --out o', 'expected one START'),
    ('merge-models none.pth --models a=b c=d --out o', 'checkpoint none.pth: no such file'),
    ('merge-models {debug} {debug} --expert a --out o', '--expert: expected one file, found 2'),
    ('merge-models {debug} --models a=b --method adaptive --out o', '--method adaptive needs --config'),
    ('prune-model {debug} none.pth --out o', 'checkpoint none.pth: no such file'),
    ('prune-model {debug} {debug} --out o --flops 1', 'flops: expected a share between 0 and 1, found 1.0'),
    ('slim-model {debug} none.pth --out o', 'checkpoint none.pth: no such file'),
    ('slim-model {debug} {debug} --out o', 'expected SlimmablePerception, found MultiTaskPerception'),
    ('pseudo-label {debug} none.pth --out o', 'checkpoint none.pth: no such file'),
    ('pseudo-label {debug} {debug} --out o --confidence signs=1', "expected TASK=X of .* found 'signs=1'"),
    ('pseudo-label {debug} {debug} --out o --confidence lanes=2', "at most 1, found 'lanes=2'"),
    ('task-affinity {debug} none.pth', 'checkpoint none.pth: no such file'),
    ('task-affinity {debug} --move 2', '--move: expected a number between 0 and 1, found 2.0'),
    ('task-affinity {debug}', 'data/world/infos/v1.0-trainval'),
    ('training-page none', 'none: expected the work dir of a training'),
    ('training-page none --watch 0', 'argument --watch'),

    ('test {debug} none.pth', 'checkpoint none.pth: no such file'),
    ('test {debug}', 'CONFIG and CHECKPOINT are needed'),
    ('test {debug} {debug} none.pth', 'checkpoint none.pth: no such file'),
    ('test {debug} {debug} --also {debug} none.pth', '--also none.pth: no such file'),
    ('test {debug} {debug} --tta x,x', "--tta: expected flips or different words .* found 'x,x'"),
    ('test {debug} {debug} --tta y --engine openvino', '--tta and several checkpoints go with --engine'),
    ('test {debug} {debug} --limit 3', '--limit goes with --corruption'),
    ('test {debug} {debug} --sensors lidar,sonar', "--sensors: .* radar, found 'sonar'"),
    ('evaluate none.json', 'one RESULTS with --root, --version and --split'),
    ('evaluate none.json --root none --version v1.0-mini --split val', 'none'),
    ('evaluate none.json --scorecard page.html', 'none.json'),
    ('track none.json --root none --version v --split s', 'none.json: found no such file'),
    ('track none.json --root none --version v --split s --min-hits 0', 'argument --min-hits'),
    ('track none.json --root none --version v --split s --motion imm', 'argument --motion'),
    ('visualize {debug} --out o', 'give a CHECKPOINT'),
    ('visualize {debug} --out o --engine openvino', '--engine openvino needs .* --export DIR'),
    ('visualize {debug} --out o --ground-truth --frames a', "FIRST:LAST.* found 'a'"),
    ('visualize {debug} --out o --ground-truth --frames 0:8:0', "FIRST:LAST.* found '0:8:0'"),
    ('visualize {debug} --out o --ground-truth', 'data/world/infos/v1.0-trainval'),
    ('lift-coverage {debug} --rig none.json', 'none.json'),
    ('corruption-gallery --root none', 'none/infos/v1.0-trainval'),
    ('corruption-gallery --index -1', "at least 0, found '-1'"),
    ('benchmark-evaluation --samples 0', 'argument --samples'),

    ('export {debug} none.pth --out o', 'checkpoint none.pth: no such file'),
    ('export {debug} none --out o --opset 30', 'argument --opset: invalid choice: 30'),
    ('export {debug} none --out o --samples 0', 'argument --samples'),
    ('export {debug} none --out o --int8 -1', "argument --int8: expected a number above 0, found '-1'"),
    ('benchmark {debug} --engine tensorflow:fp32', "found 'tensorflow:fp32'"),
    ('benchmark {debug} --runs 0', 'argument --runs'),
    ('benchmark {debug} --random-frames 0', 'argument --random-frames'),
    ('benchmark-peers {debug} --engine torch:fp9', "found 'torch:fp9'"),
    ('benchmark-peers {debug}', 'mmdet3d is not installed: `make test-mm`'),
    ('engine-table {debug} none --export none --out o --engine torch:fp99', "found 'torch:fp99'"),
    ('engine-table {debug} none --export none --out o --limit -1', 'argument --limit'),
    ('run-scene {debug} {debug} --export none --speed 0', "--rate: expected a number above 0, found '0'"),
    ('run-scene {debug} {debug} --export none --speed nan', 'argument --speed'),
    ('run-scene {debug} {debug} --export none --deadline-s inf', 'argument --deadline-s'),
    ('run-scene {debug} {debug} --export none --frames 0', 'argument --frames'),
    ('run-scene {debug} {debug} --export none --device cuda', "--device: .*'auto'. for openvino, found"),
    ('test {debug} {debug} --engine onnxruntime --device npu', "--device: .*'tensorrt_rtx'.* found 'npu'"),
    ('visualize {debug} {debug} --out o --device cuda', '--device goes with another --engine'),
]

# the same on data that is there
REFUSED_WITH_DATA = [
    ('run-scene {debug} {debug} --export none --kill NOPE@1', "--kill: expected CHANNEL.* found 'NOPE@1'"),
    ('run-scene {debug} {debug} --export none --scene nowhere', '--scene: scene nowhere: no frame'),
    ('run-scene {debug} {debug} --export none', 'none.*sidecar.json'),
    ('test {debug} {debug} --split nowhere', "split: found 'nowhere'"),
    ('visualize {debug} --out o --ground-truth --split nowhere', "split: found 'nowhere'"),
    ('visualize {debug} none --out o --engine onnxruntime --export none', 'none.*sidecar.json'),
    ('export {debug} none --out o --tasks parking', "tasks: .*'parking'"),
    ('export {debug} none --out o --sensors sonar', "sensors: .*'sonar'"),
]


def refusal(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The last line that a command prints where it refuses its arguments."""
    try:
        status = commands.main(words.format(debug=DEBUG).split())
    except SystemExit as error:
        status = error.code
    assert status not in (0, None)
    return (status if isinstance(status, str) else capsys.readouterr().err.strip()).splitlines()[-1]


@pytest.mark.parametrize(('words', 'message'), REFUSED, ids=[words for words, _ in REFUSED])
def test_what_cannot_be_used_is_refused_by_name(words, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(message, refusal(words, capsys))
    assert [path for path in tmp_path.rglob('*') if path.is_file()] == []


@pytest.mark.parametrize(
    ('words', 'message'), REFUSED_WITH_DATA, ids=[words for words, _ in REFUSED_WITH_DATA])
def test_what_does_not_fit_the_data_is_refused_by_name(
    words, message, tiny_world, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'world').symlink_to(tiny_world)
    assert re.search(message, refusal(words, capsys))


def test_every_verb_has_a_case() -> None:
    assert {words.split()[0] for words, _ in REFUSED} == set(commands.VERBS)


def test_a_fault_keeps_its_traceback(monkeypatch) -> None:
    """Only errors that the package raises itself become a line."""
    from perception.cli.data import doctor
    monkeypatch.setattr(doctor, 'main', lambda args: int('a fault'))
    with pytest.raises(ValueError, match='a fault'):
        commands.main(['doctor'])
