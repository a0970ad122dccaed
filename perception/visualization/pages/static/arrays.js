// Arrays of the page, and where points of the car's frame lie in an image.
'use strict';

const Arrays = {
  // base64 of packed bytes -> a typed array of the kind that the page names
  async unpack(packed) {
    const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
    const buffer = await new Response(stream).arrayBuffer();
    return new ({ int16: Int16Array, uint8: Uint8Array, uint16: Uint16Array })[packed.kind](buffer);
  },

  // points are kept as the steps from each to the next, in centimetres, one coordinate after the other
  async points(packed) {
    const steps = await Arrays.unpack(packed);
    const count = steps.length / 3;
    const metres = new Float32Array(3 * count);
    for (let axis = 0; axis < 3; axis++) {
      let at = 0;
      for (let i = 0; i < count; i++) {
        at = (at + steps[axis * count + i]) << 16 >> 16;
        metres[3 * i + axis] = at / 100;
      }
    }
    return metres;
  },
};

const Lens = {
  toCamera(camera, [x, y, z]) {
    const t = camera.cam_T_ego;
    return [0, 4, 8].map((row) => t[row] * x + t[row + 1] * y + t[row + 2] * z + t[row + 3]);
  },

  // a point of the camera's frame -> [column, row], or null where the lens does not see it
  pixel(camera, [x, y, z]) {
    const plane = camera.lens.code === 2
      ? Lens.fisheye(camera.lens, x, y, z) : Lens.central(camera.lens, x, y, z);
    if (plane === null) return null;
    const K = camera.K, [a, b] = plane;
    return [K[0] * a + K[1] * b + K[2], K[3] * a + K[4] * b + K[5]];
  },

  central(lens, x, y, z) {
    if (z < 0.05) return null;
    const a = x / z, b = y / z, s = a * a + b * b;
    if (lens.code === 0) return [a, b];
    if (s >= lens.limit * lens.limit) return null;

    const [k1, k2, p1, p2, k3, k4, k5, k6] = lens.k;
    const radial = (1 + s * (k1 + s * (k2 + s * k3))) / (1 + s * (k4 + s * (k5 + s * k6)));
    return [
      a * radial + 2 * p1 * a * b + p2 * (s + 2 * a * a),
      b * radial + p1 * (s + 2 * b * b) + 2 * p2 * a * b];
  },

  fisheye(lens, x, y, z) {
    const across = Math.hypot(x, y), theta = Math.atan2(across, z), s = theta * theta;
    if (theta >= lens.limit || across < 1e-9) return across < 1e-9 && z > 0 ? [0, 0] : null;
    const [k1, k2, k3, k4] = lens.k;
    const scale = theta * (1 + s * (k1 + s * (k2 + s * (k3 + s * k4)))) / across;
    return [x * scale, y * scale];
  },

  // the picture of a line through points of the car's frame, in pieces short enough for a bent lens
  pieces(camera, points) {
    const found = [];
    let line = [];
    for (let i = 0; i + 1 < points.length; i++) {
      const [a, b] = [points[i], points[i + 1]];
      const long = Math.hypot(b[0] - a[0], b[1] - a[1], b[2] - a[2]);
      const count = Math.min(40, Math.ceil(long / 0.5)) || 1;

      for (let k = i ? 1 : 0; k <= count; k++) {
        const point = a.map((value, axis) => value + (b[axis] - value) * k / count);
        const pixel = Lens.pixel(camera, Lens.toCamera(camera, point));
        if (pixel) line.push(pixel);
        else if (line.length) { found.push(line); line = []; }
      }
    }
    if (line.length) found.push(line);
    return found;
  },
};
