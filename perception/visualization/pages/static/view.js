// The 3-D view: a camera that turns around a place, groups of objects by layer, names on top.
'use strict';

class View {
  constructor(canvas, names) {
    this.canvas = canvas;
    this.names = names;
    this.pen = names.getContext('2d');
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: !View.isComputed() });
    this.scene = new THREE.Scene();
    this.scene.background = new THREE.Color(0xf5f7f9);
    this.camera = new THREE.PerspectiveCamera(50, 1, 0.3, 400);
    this.camera.up.set(0, 0, 1);
    this.groups = {};
    this.labels = [];
    this.waiting = false;
    this.drawn = 0;

    this.look('behind');
    this.listen();
    this.put('car', Shapes.car());
    new ResizeObserver(() => this.request()).observe(canvas.parentElement);
  }

  // whether the processor computes WebGL: smooth edges would then cost most of the time
  static isComputed() {
    const gl = document.createElement('canvas').getContext('webgl');
    const facts = gl && gl.getExtension('WEBGL_debug_renderer_info');
    return Boolean(facts) && /swiftshader|llvmpipe|software|basic render/i.test(
      gl.getParameter(facts.UNMASKED_RENDERER_WEBGL));
  }

  // ---- what is shown

  put(name, objects) {
    const old = this.groups[name];
    if (old) {
      this.scene.remove(old);
      for (const object of old.children) {
        object.geometry.dispose();
        if (object.material.map) object.material.map.dispose();
        object.material.dispose();
      }
    }
    const group = new THREE.Group();
    for (const object of objects) { object.frustumCulled = false; group.add(object); }
    this.groups[name] = group;
    this.scene.add(group);
    this.request();
  }

  // ---- where it is looked from

  look(name) {
    const views = { behind: [[6, 0, 0], Math.PI, 0.5, 36], above: [[0, 0, 0], Math.PI, 1.55, 95], front: [[12, 0, 1], Math.PI, 0.16, 22] };
    [this.target, this.turn, this.tilt, this.far] = views[name].map((value) => (Array.isArray(value) ? [...value] : value));
    this.request();
  }

  listen() {
    const canvas = this.canvas;
    let last = null;
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    canvas.addEventListener('pointerdown', (event) => {
      last = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointerup', () => { last = null; });
    canvas.addEventListener('pointermove', (event) => {
      if (!last) return;
      const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
      last = [event.clientX, event.clientY];
      if (event.buttons & 2 || event.shiftKey) this.move(dx, dy);
      else { this.turn -= dx * 0.006; this.tilt = Math.max(0.02, Math.min(1.55, this.tilt + dy * 0.006)); }
      this.request();
    });
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.far = Math.max(2, Math.min(200, this.far * Math.exp(event.deltaY * 0.001)));
      this.request();
    }, { passive: false });
  }

  move(dx, dy) {
    const scale = this.far / 800, c = Math.cos(this.turn), s = Math.sin(this.turn);
    this.target[0] += scale * (dx * s - dy * c);
    this.target[1] += scale * (-dx * c - dy * s);
  }

  // ---- drawing, once for each time the screen asks

  request() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const { clientWidth: w, clientHeight: h } = this.canvas.parentElement;
    if (!w || !h) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    if (this.size !== `${w} ${h} ${ratio}`) {
      this.size = `${w} ${h} ${ratio}`;
      this.renderer.setPixelRatio(ratio);
      this.renderer.setSize(w, h, false);
      this.names.width = w * ratio;
      this.names.height = h * ratio;
      this.camera.aspect = w / h;
      this.camera.updateProjectionMatrix();
    }

    const [x, y, z] = this.target, flat = this.far * Math.cos(this.tilt);
    this.camera.position.set(x + flat * Math.cos(this.turn), y + flat * Math.sin(this.turn), z + this.far * Math.sin(this.tilt));
    this.camera.lookAt(x, y, z);
    this.renderer.render(this.scene, this.camera);
    this.drawNames(w, h, ratio);
    if (!this.drawn) this.drawnAt = performance.now();
    this.drawn += 1;
  }

  drawNames(w, h, ratio) {
    const pen = this.pen;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    pen.font = '11px system-ui, sans-serif';
    pen.textAlign = 'center';
    for (const label of this.labels) {
      const place = new THREE.Vector3(...label.place);
      if (place.distanceTo(this.camera.position) > 110) continue;
      place.project(this.camera);
      if (place.z > 1) continue;
      const [column, row] = [(place.x + 1) / 2 * w, (1 - place.y) / 2 * h];
      pen.lineWidth = 3;
      pen.strokeStyle = '#ffffffcc';
      pen.strokeText(label.text, column, row - 4);
      pen.fillStyle = `rgb(${label.colour})`;
      pen.fillText(label.text, column, row - 4);
    }
  }
}
