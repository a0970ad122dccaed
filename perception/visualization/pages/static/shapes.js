// Shapes of one frame as objects of three.js, which does all the drawing. Metres in the car's frame, z up.
'use strict';

// heights above the ground of what lies on it; `lift` is that of the voxels of the road, where they are shown
const GROUND = { rings: 0.01, lines: 0.05, arrows: 0.08, lift: 0 };
const EDGES = [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]];
const SIDES = [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]];

// (step to the neighbour, corners of the face, how bright it is)
const FACES = [
  [[0, 0, 1], [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], 1.0],
  [[1, 0, 0], [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]], 0.8],
  [[-1, 0, 0], [[0, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]], 0.8],
  [[0, 1, 0], [[0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]], 0.65],
  [[0, -1, 0], [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]], 0.65]];

// collects corners and colours, and becomes one object at the end
class Soup {
  constructor() {
    this.corners = [];
    this.colours = [];
  }

  add(point, colour, bright = 1) {
    this.corners.push(point[0], point[1], point[2]);
    this.colours.push(colour[0] / 255 * bright, colour[1] / 255 * bright, colour[2] / 255 * bright);
  }

  quad(a, b, c, d, colour, bright = 1) {
    for (const point of [a, b, c, a, c, d]) this.add(point, colour, bright);
  }

  // a flat band along a line on the ground
  band(points, width, z, colour) {
    for (let i = 0; i + 1 < points.length; i++) {
      const [ax, ay] = points[i], [bx, by] = points[i + 1];
      const long = Math.hypot(bx - ax, by - ay) || 1;
      const nx = -(by - ay) / long * width / 2, ny = (bx - ax) / long * width / 2;
      this.quad([ax + nx, ay + ny, z], [bx + nx, by + ny, z], [bx - nx, by - ny, z], [ax - nx, ay - ny, z],
        colour);
    }
  }

  geometry() {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute('position', new THREE.BufferAttribute(new Float32Array(this.corners), 3));
    geometry.setAttribute('color', new THREE.BufferAttribute(new Float32Array(this.colours), 3));
    return geometry;
  }

  faces(opacity = 1) {
    return new THREE.Mesh(this.geometry(), new THREE.MeshBasicMaterial({
      vertexColors: true, side: THREE.DoubleSide, transparent: opacity < 1, opacity,
      depthWrite: opacity === 1 }));
  }

  edges() {
    return new THREE.LineSegments(this.geometry(), new THREE.LineBasicMaterial({ vertexColors: true }));
  }
}

const Shapes = {
  corners([x, y, z, l, w, h, yaw]) {
    const c = Math.cos(yaw), s = Math.sin(yaw);
    const foot = [[1, 1], [1, -1], [-1, -1], [-1, 1]].map(([i, j]) => [
      x + c * i * l / 2 - s * j * w / 2, y + s * i * l / 2 + c * j * w / 2]);
    return [...foot.map(([a, b]) => [a, b, z - h / 2]), ...foot.map(([a, b]) => [a, b, z + h / 2])];
  },

  boxes(items, colourOf) {
    const sides = new Soup(), edges = new Soup();
    for (const one of items) {
      const corners = Shapes.corners(one.item), colour = colourOf(one);
      for (const side of SIDES) sides.quad(...side.map((i) => corners[i]), colour);
      for (const [a, b] of EDGES) { edges.add(corners[a], colour, 0.75); edges.add(corners[b], colour, 0.75); }
    }
    return [sides.faces(0.4), edges.edges()];
  },

  // from the centre to the front, and on along the velocity to where the object is in a second
  arrows(items, colourOf) {
    const soup = new Soup();
    for (const one of items) {
      const [x, y, z, l, , h, yaw, vx, vy] = one.item;
      const ground = z - h / 2 + GROUND.arrows + GROUND.lift, speed = Math.hypot(vx, vy);
      const nose = [x + Math.cos(yaw) * l * 0.65, y + Math.sin(yaw) * l * 0.65];
      soup.band([[x, y], nose], 0.15, ground, colourOf(one));
      if (vx === null || vy === null || speed < 0.5) continue;

      const [ux, uy] = [vx / speed, vy / speed], end = [x + vx, y + vy];
      soup.band([[x, y], end], 0.22, ground, [30, 36, 44]);
      const back = (side) => [end[0] - 0.9 * ux - side * 0.5 * uy, end[1] - 0.9 * uy + side * 0.5 * ux, ground];
      for (const point of [[...end, ground], back(1), back(-1)]) soup.add(point, [30, 36, 44]);
    }
    return [soup.faces()];
  },

  lines(items, colourOf) {
    const soup = new Soup();
    for (const one of items) soup.band(one.item, 0.25, GROUND.lines + GROUND.lift, colourOf(one));
    return [soup.faces()];
  },

  trails(items) {
    const soup = new Soup();
    for (const { past, ahead, colour } of items) {
      soup.band(past, 0.25, GROUND.lines + GROUND.lift, colour);
      for (const [x, y] of ahead) soup.band([[x - 0.15, y], [x + 0.15, y]], 0.3, GROUND.arrows + GROUND.lift, colour);
    }
    return [soup.faces()];
  },

  // cells of the ground, painted into a texture; `colourAt(i)` gives a colour or null for cell i
  cells(shape, colourAt) {
    const [rows, columns] = shape.shape, canvas = document.createElement('canvas');
    canvas.width = columns;
    canvas.height = rows;
    const pen = canvas.getContext('2d'), image = pen.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) {
      const colour = colourAt(i);
      if (colour) image.data.set([...colour, 255], 4 * i);
    }
    pen.putImageData(image, 0, 0);

    const texture = new THREE.CanvasTexture(canvas);
    texture.magFilter = THREE.NearestFilter;
    texture.flipY = false;
    const [[x0, x1], [y0, y1]] = [shape.x, shape.y], geometry = new THREE.BufferGeometry();
    geometry.setAttribute('position', new THREE.BufferAttribute(new Float32Array([
      x0, y0, 0, x1, y0, 0, x1, y1, 0, x0, y1, 0]), 3));
    geometry.setAttribute('uv', new THREE.BufferAttribute(new Float32Array([0, 0, 1, 0, 1, 1, 0, 1]), 2));
    geometry.setIndex([0, 1, 2, 0, 2, 3]);
    const material = new THREE.MeshBasicMaterial({
      map: texture, transparent: true, side: THREE.DoubleSide, depthWrite: false, polygonOffset: true,
      polygonOffsetFactor: 1, polygonOffsetUnits: 1 });
    const mesh = new THREE.Mesh(geometry, material);
    mesh.renderOrder = -2;
    return [mesh];
  },

  // the faces of occupied voxels that no other voxel hides
  voxels(shape, colourAt) {
    const [X, Y, Z] = shape.shape, [lx, ly, lz] = shape.low, m = shape.voxel;
    const drawn = new Array(X * Y * Z);
    for (let i = 0; i < drawn.length; i++) drawn[i] = colourAt(i);

    const corners = [], colours = [], index = [];
    for (let x = 0, i = 0; x < X; x++) for (let y = 0; y < Y; y++) for (let z = 0; z < Z; z++, i++) {
      const colour = drawn[i];
      if (!colour) continue;
      for (const [[dx, dy, dz], face, bright] of FACES) {
        const inside = x + dx >= 0 && x + dx < X && y + dy >= 0 && y + dy < Y && z + dz < Z;
        if (inside ? drawn[i + (dx * Y + dy) * Z + dz] : dz === 0) continue;

        const first = corners.length / 3;
        for (const [a, b, c] of face) {
          corners.push(lx + (x + a) * m, ly + (y + b) * m, lz + (z + c) * m);
          colours.push(colour[0] * bright, colour[1] * bright, colour[2] * bright);
        }
        index.push(first, first + 1, first + 2, first, first + 2, first + 3);
      }
    }

    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute('position', new THREE.BufferAttribute(new Float32Array(corners), 3));
    geometry.setAttribute('color', new THREE.BufferAttribute(new Uint8Array(colours), 3, true));
    geometry.setIndex(new THREE.BufferAttribute(new Uint32Array(index), 1));
    return [new THREE.Mesh(geometry, new THREE.MeshBasicMaterial({ vertexColors: true, side: THREE.DoubleSide }))];
  },

  points(metres) {
    const colours = new Float32Array(metres.length);
    for (let i = 0; i < metres.length; i += 3) {
      const high = Math.max(0, Math.min(1, (metres[i + 2] + 0.3) / 3));
      colours.set([0.55 - 0.4 * high, 0.58 - 0.3 * high, 0.62 + 0.05 * high], i);
    }
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute('position', new THREE.BufferAttribute(metres, 3));
    geometry.setAttribute('color', new THREE.BufferAttribute(colours, 3));
    return [new THREE.Points(geometry, new THREE.PointsMaterial({
      size: 1.6, sizeAttenuation: false, vertexColors: true }))];
  },

  // where each camera stands and looks, its image on the far side
  frustum(camera, image) {
    const [h, w] = camera.size, K = camera.K, t = camera.cam_T_ego, far = 1.3;
    const corner = ([u, v]) => {
      const determinant = K[0] * K[4] - K[1] * K[3], [du, dv] = [u - K[2], v - K[5]];
      const cam = [(K[4] * du - K[1] * dv) / determinant, (K[0] * dv - K[3] * du) / determinant, 1];
      // a lens bends the edges outwards; the picture is kept within 70 degrees of the axis
      const off = Math.hypot(cam[0], cam[1]), most = camera.lens.code ? 1.5 : 4;
      if (off > most) { cam[0] *= most / off; cam[1] *= most / off; }
      const p = cam.map((value, axis) => value * far - t[4 * axis + 3]);
      return [0, 1, 2].map((axis) => t[axis] * p[0] + t[4 + axis] * p[1] + t[8 + axis] * p[2]);
    };
    const eye = [0, 1, 2].map((axis) => -(t[axis] * t[3] + t[4 + axis] * t[7] + t[8 + axis] * t[11]));
    const places = [[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]].map(corner);

    const edges = new Soup();
    places.forEach((place, i) => {
      for (const [a, b] of [[eye, place], [place, places[(i + 1) % 4]]]) {
        edges.add(a, [70, 80, 92]);
        edges.add(b, [70, 80, 92]);
      }
    });
    const geometry = new THREE.BufferGeometry(), texture = new THREE.Texture(image);
    geometry.setAttribute('position', new THREE.BufferAttribute(new Float32Array(places.flat()), 3));
    geometry.setAttribute('uv', new THREE.BufferAttribute(new Float32Array([0, 1, 1, 1, 1, 0, 0, 0]), 2));
    geometry.setIndex([0, 1, 2, 0, 2, 3]);
    texture.minFilter = THREE.LinearFilter;
    texture.generateMipmaps = false;
    texture.needsUpdate = true;
    return [edges.edges(), new THREE.Mesh(geometry, new THREE.MeshBasicMaterial({
      map: texture, side: THREE.DoubleSide }))];
  },

  // the car itself, and a circle on the ground every ten metres
  car() {
    const sides = new Soup(), edges = new Soup();
    for (const box of [[1.4, 0, 0.65, 4.6, 1.85, 0.8, 0], [1.1, 0, 1.3, 2.5, 1.6, 0.55, 0]]) {
      const corners = Shapes.corners(box);
      SIDES.forEach((side, i) => sides.quad(...side.map((k) => corners[k]), [48, 56, 66], [0.6, 1.25, 0.8, 1, 0.8, 1][i]));
    }
    for (let metres = 10; metres <= 50; metres += 10) {
      for (let i = 0; i < 72; i++) {
        for (const angle of [i, i + 1]) {
          const turn = angle * Math.PI / 36;
          edges.add([metres * Math.cos(turn), metres * Math.sin(turn), GROUND.rings], [196, 202, 209]);
        }
      }
    }
    return [sides.faces(), edges.edges()];
  },
};
