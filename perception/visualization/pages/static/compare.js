// What two sources of one frame have in common: boxes, lines, cells and voxels, each item with its state.
'use strict';

const STATES = {
  both: { colour: [150, 156, 164], word: 'in both' },
  first: { colour: [0, 120, 255], word: 'only in' },
  second: { colour: [235, 0, 110], word: 'only in' },
  changed: { colour: [240, 165, 0], word: 'of another class' },
};

const Compare = {
  // rows of boxes or lines that are drawn: of a class that is on, with a score that is reached
  rows(shape, classes, score) {
    if (!shape) return [];
    return shape.labels.map((label, row) => row).filter((row) => classes[shape.labels[row]]
      && (shape.scores === null || shape.scores[row] >= score));
  },

  // pairs of one class, nearest first, each at most `limit` metres apart
  pairs(first, second, rows1, rows2, distance, limit) {
    const near = [];
    for (const a of rows1) {
      for (const b of rows2) {
        if (first.labels[a] !== second.labels[b]) continue;
        const metres = distance(first.items[a], second.items[b]);
        if (metres < limit) near.push([metres, a, b]);
      }
    }
    near.sort((one, other) => one[0] - other[0]);

    const paired = { first: new Set(), second: new Set() };
    for (const [, a, b] of near) {
      if (paired.first.has(a) || paired.second.has(b)) continue;
      paired.first.add(a);
      paired.second.add(b);
    }
    return paired;
  },

  boxDistance(a, b) { return Math.hypot(a[0] - b[0], a[1] - b[1]); },

  lineDistance(a, b) {
    const oneWay = (from, to) => from.reduce((sum, p) => sum + Compare.toLine(p, to), 0) / from.length;
    return (oneWay(a, b) + oneWay(b, a)) / 2;
  },

  toLine([x, y], line) {
    let nearest = Math.hypot(x - line[0][0], y - line[0][1]);
    for (let i = 0; i + 1 < line.length; i++) {
      const [ax, ay] = line[i], dx = line[i + 1][0] - ax, dy = line[i + 1][1] - ay;
      const along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1);
      const t = Math.max(0, Math.min(1, along));
      nearest = Math.min(nearest, Math.hypot(x - ax - t * dx, y - ay - t * dy));
    }
    return nearest;
  },

  // [{item, label, score, state, row}] of one layer, the second source's after the first's
  items(layer, first, second, options) {
    const rows1 = Compare.rows(first, options.classes, options.score);
    const entry = (shape, row, state) => ({
      item: shape.items[row], label: shape.labels[row], row, state,
      score: shape.scores === null ? null : shape.scores[row] });
    if (!options.against) return rows1.map((row) => entry(first, row, null));

    const rows2 = Compare.rows(second, options.classes, options.score);
    const [distance, limit] = layer.kind === 'boxes' ? [Compare.boxDistance, 2] : [Compare.lineDistance, 1];
    const paired = Compare.pairs(first, second, rows1, rows2, distance, limit);
    const all = [
      ...rows1.map((row) => entry(first, row, paired.first.has(row) ? 'both' : 'first')),
      ...rows2.filter((row) => !paired.second.has(row)).map((row) => entry(second, row, 'second'))];
    return options.onlyDifferences ? all.filter((one) => one.state !== 'both') : all;
  },

  // the state of one cell or voxel; `a` and `b` are classes, -1 for none
  state(a, b) {
    if (a < 0 && b < 0) return null;
    if (a === b) return 'both';
    if (b < 0) return 'first';
    return a < 0 ? 'second' : 'changed';
  },
};
