// What the page does: one frame at a time is unpacked, and drawn as the controls say.
'use strict';

const page = JSON.parse(document.getElementById('page').textContent);
const at = (id) => document.getElementById(id);
const state = {
  frame: 0, playing: false, round: 0, score: page.score, layers: {}, classes: {}, data: null, asked: 0 };
let view = null;

const CAMERAS = 'camera views';
const POINTS = 'points';
const NAMES = 'names';
const ARROWS = 'velocity';

// ---------------------------------------------------------------- a frame

async function readFrame(number) {
  const raw = JSON.parse(at(`frame-data-${number}`).textContent);
  const frame = { ...raw, images: [] };
  frame.points = raw.points ? await Arrays.points(raw.points) : null;
  for (const shapes of Object.values(raw.sources)) {
    for (const shape of Object.values(shapes)) if (shape.packed) shape.values = await Arrays.unpack(shape.packed);
  }
  frame.images = await Promise.all(raw.cameras.map(async (camera) => {
    const image = new Image();
    image.src = `data:image/jpeg;base64,${camera.image}`;
    await image.decode();
    return image;
  }));
  return frame;
}

async function show(number) {
  const asked = ++state.asked;
  const data = await readFrame(number);
  if (asked !== state.asked) return;  // another one was asked for meanwhile
  state.frame = number;
  state.data = data;
  at('time').value = number;
  const { name, scene, time_s: time } = page.frames[number];
  at('frame-name').textContent = `${scene} ${name}`;
  at('clock').textContent = `${number + 1} of ${page.frames.length}, ${time.toFixed(1)} s`;
  history.replaceState(null, '', `#frame-${number}`);
  draw();
  document.documentElement.dataset.ready = 'yes';
}

// ---------------------------------------------------------------- drawing

function options() {
  const against = at('against').value;
  return {
    shown: at('shown').value, against: against === at('shown').value ? '' : against,
    onlyDifferences: at('only-differences').checked, score: state.score };
}

function colourOf(layer) {
  return (one) => (one.state ? STATES[one.state].colour : layer.classes[one.label][1]);
}

// every layer's shapes with what the controls leave of them: {name: {layer, items}, {layer, trails} or {layer, shape, colourAt}}
function chosen() {
  const chosenOptions = options(), found = {};
  for (const layer of page.layers) {
    const first = (state.data.sources[chosenOptions.shown] || {})[layer.name];
    const second = (state.data.sources[chosenOptions.against] || {})[layer.name];
    if (!state.layers[layer.name]) continue;
    // nothing to compare with: the layer is drawn as it is
    const comparing = Boolean(chosenOptions.against && first && second);
    const local = { ...chosenOptions, against: comparing, classes: state.classes[layer.name] };
    if (!first) continue;

    if (layer.kind === 'boxes' || layer.kind === 'lines') {
      found[layer.name] = { layer, items: Compare.items(layer, first, second, local) };
    } else if (layer.kind === 'trails') {
      found[layer.name] = { layer, trails: first.items.filter((_, i) => first.scores[i] >= local.score) };
    } else {
      found[layer.name] = { layer, shape: first, colourAt: gridColours(layer, first, second, local) };
    }
  }
  return found;
}

// index of a cell or voxel -> its colour, null where nothing is drawn
function gridColours(layer, first, second, local) {
  const colours = layer.classes.map(([, colour]) => colour);
  const classAt = layer.kind === 'voxels'
    ? (values, i) => (values[i] < colours.length && local.classes[values[i]] ? values[i] : -1)
    : (values, i) => topClass(values[i], local.classes);
  const same = local.against && first.values.length === second.values.length;
  if (!same) {
    return (i) => { const a = classAt(first.values, i); return a < 0 ? null : colours[a]; };
  }
  return (i) => {
    const word = Compare.state(classAt(first.values, i), classAt(second.values, i));
    return word === null || (local.onlyDifferences && word === 'both') ? null : STATES[word].colour;
  };
}

// of a cell's classes, one bit each, the last that is on: it lies on top
function topClass(bits, classes) {
  for (let k = classes.length - 1; k >= 0; k--) if (classes[k] && bits >> k & 1) return k;
  return -1;
}

function draw() {
  if (!state.data) return;
  const parts = chosen();
  if (view) drawWorld(parts);
  drawStrip(parts);
  describe(parts);
}

function drawWorld(parts) {
  view.labels = [];
  GROUND.lift = Object.values(parts).some(({ layer }) => layer.kind === 'voxels') ? 0.2 : 0;
  view.put(POINTS, state.layers[POINTS] && state.data.points ? Shapes.points(state.data.points) : []);
  view.put(CAMERAS, state.layers[CAMERAS]
    ? state.data.cameras.flatMap((camera, i) => Shapes.frustum(camera, state.data.images[i])) : []);

  for (const layer of page.layers) {
    const part = parts[layer.name];
    let objects = [];
    if (part && part.items) {
      objects = Shapes[layer.kind](part.items, colourOf(layer));
      if (layer.kind === 'boxes' && state.layers[ARROWS]) objects.push(...Shapes.arrows(part.items, colourOf(layer)));
    } else if (part) {
      objects = part.trails ? Shapes.trails(part.trails) : Shapes[layer.kind](part.shape, part.colourAt);
    }
    view.put(layer.name, objects);
    if (layer.kind === 'boxes' && part && state.layers[NAMES]) view.labels.push(...labelsOf(part, parts));
  }
}

// class, number and score of each box; the number is the track's where there is one, else the row in the frame
function labelsOf({ layer, items }, parts) {
  const trails = Object.values(parts).flatMap((part) => part.trails || []);
  return items.map((one) => {
    const [x, y] = one.item;
    const trail = trails.find(({ place }) => Math.hypot(place[0] - x, place[1] - y) < 0.3);
    const number = trail ? `#${trail.id}` : one.row + 1;
    const score = one.score === null ? '' : ` ${one.score.toFixed(2)}`;
    return {
      place: [x, y, one.item[2] + one.item[5] / 2],
      text: `${layer.classes[one.label][0].replaceAll('_', ' ')} ${number}${score}`,
      colour: colourOf(layer)(one).map((value) => Math.round(value * 0.7)) };
  });
}

function drawStrip(parts) {
  state.data.cameras.forEach((camera, i) => {
    const canvas = stripFigure(i, camera.name), [h, w] = camera.size, scale = Math.min(3, 960 / w);
    canvas.width = w * scale;
    canvas.height = h * scale;
    const pen = canvas.getContext('2d');
    pen.scale(scale, scale);
    pen.drawImage(state.data.images[i], 0, 0);
    pen.translate(0.5, 0.5);  // the middle of the first pixel is 0, 0

    for (const { layer, items } of Object.values(parts)) {
      for (const one of items || []) stroke(pen, camera, layer, one);
    }
  });
  [...at('strip').children].slice(state.data.cameras.length).forEach((figure) => figure.remove());
}

function stroke(pen, camera, layer, one) {
  const corners = layer.kind === 'boxes' ? Shapes.corners(one.item) : null;
  const lines = corners ? [...EDGES, [0, 5], [1, 4]].map(([a, b]) => [corners[a], corners[b]])
    : [one.item.map(([x, y]) => [x, y, 0])];
  pen.strokeStyle = `rgb(${colourOf(layer)(one)})`;
  pen.lineWidth = 1.8;
  pen.beginPath();
  for (const line of lines) {
    for (const piece of Lens.pieces(camera, line)) {
      piece.forEach(([column, row], k) => (k ? pen.lineTo(column, row) : pen.moveTo(column, row)));
    }
  }
  pen.stroke();
}

function stripFigure(i, name) {
  const strip = at('strip');
  while (strip.children.length <= i) {
    const figure = document.createElement('figure');
    figure.append(document.createElement('canvas'), document.createElement('figcaption'));
    figure.addEventListener('click', () => figure.classList.toggle('large'));
    strip.append(figure);
  }
  const figure = strip.children[i];
  figure.lastChild.textContent = name;
  return figure.firstChild;
}

// how much the two sources have in common
function describe(parts) {
  const { shown, against } = options(), words = [];
  at('only-differences').disabled = !against;
  for (const { layer, items } of Object.values(parts)) {
    if (!against || !items) continue;
    const count = (word) => items.filter((one) => one.state === word).length;
    words.push(`${layer.name}: ${count('both')} in both, ${count('first')} only in ${shown}, ${count('second')} only in ${against}`);
  }
  at('verdict').textContent = words.join('; ');
  drawClasses();
}

// ---------------------------------------------------------------- controls

function checkbox(text, colour, on, change) {
  const row = document.createElement('label'), box = document.createElement('input');
  row.className = 'row';
  box.type = 'checkbox';
  box.checked = on;
  box.addEventListener('change', () => { change(box.checked); draw(); });
  row.append(box);
  if (colour) row.append(swatch(colour));
  row.append(document.createTextNode(text.replaceAll('_', ' ')));
  return row;
}

function swatch(colour) {
  const mark = document.createElement('span');
  mark.className = 'swatch';
  mark.style.background = `rgb(${colour})`;
  return mark;
}

function heading(text) {
  const title = document.createElement('h2');
  title.textContent = text;
  return title;
}

function drawLayers() {
  const names = [POINTS, CAMERAS, ...page.layers.map((layer) => layer.name), NAMES, ARROWS];
  for (const name of names) {
    const layer = page.layers.find((one) => one.name === name);
    // voxels would hide the road; where there is nothing else they are on
    state.layers[name] = !(layer && layer.kind === 'voxels') || page.layers.length === 1;
    const row = checkbox(name, null, state.layers[name], (on) => { state.layers[name] = on; });
    row.dataset.layer = name;
    at('layers').append(row);
  }
  for (const layer of page.layers) state.classes[layer.name] = layer.classes.map(() => true);
}

// the classes of every layer that is on; while comparing, what the colours mean then
function drawClasses() {
  const { shown, against } = options(), place = at('classes');
  const key = JSON.stringify([state.layers, shown, against]);
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.replaceChildren();

  if (against) {
    place.append(heading('colours'));
    const sources = { first: shown, second: against };
    for (const [word, { colour, word: text }] of Object.entries(STATES)) {
      const row = document.createElement('div');
      row.className = 'row';
      row.append(swatch(colour), document.createTextNode(sources[word] ? `${text} ${sources[word]}` : text));
      place.append(row);
    }
  }
  for (const layer of page.layers) {
    if (!state.layers[layer.name] || !layer.classes.length) continue;
    place.append(heading(layer.name));
    layer.classes.forEach(([name, colour], k) => {
      const on = state.classes[layer.name][k];
      const row = checkbox(name, colour, on, (now) => { state.classes[layer.name][k] = now; });
      row.dataset.class = `${layer.name} ${name}`;
      place.append(row);
    });
  }
}

function play(on) {
  state.playing = on;
  at('play').textContent = on ? 'pause' : 'play';
  if (on) step(++state.round);
}

async function step(round) {
  if (!state.playing || round !== state.round) return;  // paused, or begun again meanwhile
  const next = (state.frame + 1) % page.frames.length, begun = performance.now();
  const span = page.frames[next].time_s - page.frames[state.frame].time_s;
  await show(next);
  // between scenes and where the drive begins anew there is no time to keep to
  const wanted = (span > 0 && span < 5 ? span : 0.5) * 1000 / Number(at('speed').value);
  setTimeout(() => step(round), Math.max(30, wanted - (performance.now() - begun)));
}

function listen() {
  for (const id of ['shown', 'against', 'only-differences']) at(id).addEventListener('change', draw);
  at('score').addEventListener('input', () => {
    state.score = Number(at('score').value);
    at('score-value').textContent = state.score.toFixed(2);
    draw();
  });
  at('time').addEventListener('input', () => { play(false); show(Number(at('time').value)); });
  const go = (by) => { play(false); show((state.frame + by + page.frames.length) % page.frames.length); };
  at('previous').addEventListener('click', () => go(-1));
  at('next').addEventListener('click', () => go(1));
  at('play').addEventListener('click', () => play(!state.playing));
  for (const button of document.querySelectorAll('[data-view]')) {
    button.addEventListener('click', () => view && view.look(button.dataset.view));
  }
  document.addEventListener('keydown', (event) => {
    if (['INPUT', 'SELECT', 'BUTTON'].includes(event.target.tagName)) return;
    if (event.key === ' ') { event.preventDefault(); play(!state.playing); }
    if (event.key === 'ArrowLeft') go(-1);
    if (event.key === 'ArrowRight') go(1);
  });
  window.addEventListener('hashchange', () => show(frameOfAddress()));
}

function frameOfAddress() {
  const number = Number((location.hash.match(/^#frame-(\d+)$/) || [0, 0])[1]);
  return Math.min(number, page.frames.length - 1);
}

function begin() {
  for (const [id, names] of [['shown', page.sources], ['against', ['', ...page.sources]]]) {
    for (const name of names) at(id).append(new Option(name || 'nothing', name));
  }
  at('time').max = page.frames.length - 1;
  at('score').min = page.lowest_score;
  at('score').value = page.score;
  at('score-value').textContent = page.score.toFixed(2);
  drawLayers();
  try {
    view = new View(at('view'), at('names'));
  } catch (error) {
    at('notice').hidden = false;
    at('notice').textContent = `This browser gives no WebGL, so there is no 3-D view: ${error.message}`;
  }
  listen();
  show(frameOfAddress());
}

begin();
