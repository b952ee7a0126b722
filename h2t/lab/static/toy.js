// Notebook 00's toy: two classes in the plane, whose points one drags; boundaries and forces
// follow.

import { Figure, area, axes, el, line, mark, scale, signed, table, text, ticks } from "./draw.js";
import { drawn, forces, length, position, regions, train } from "./forces.js";
import { Front, Ratio } from "./front.js";

const REACH = 5; // half the height of the plane
const ARROW = 10; // length of an arrow of force 1
const SLIDE = Array.from({ length: 61 }, (_, k) => -3 + 0.1 * k);
const MEASURES = {
  region: "tail's region, %",
  head: "head accuracy, %",
  tail: "tail accuracy, %",
  balanced: "balanced accuracy, %",
};

export class Toy extends Front {
  /** `root` to fill; `frame` as toy/front.py makes it. */
  constructor(root, frame) {
    super(root, ["back", "text", "soft", "grid", "many", "few", "all", "now"]);
    Object.assign(this, { start: frame.p, decay: frame.weight_decay, ...frame.arrays });
    this.given = this.points;
    this.drawnLabels = Uint8Array.from(this.own, (k) => this.labels[k]);
    this.status = el("p", { className: "status", role: "status", "aria-live": "polite" });
    this.numbers = el("div", { className: "numbers" });
    this.verdict = el("p", { className: "verdict" });
    const set = (p, began) => this.set(p, began);
    this.ratio = new Ratio({ front: this, set, say: (words, bad) => this.say(words, bad) });
    const reset = el("button", { type: "button", onclick: () => this.reset() }, "Reset");
    const bar = el("div", { className: "line" }, ...this.ratio.nodes, reset);
    this.figures = [new Plane(this), new Balance(this)];
    const nodes = this.figures.map((f) => f.node);
    root.append(
      el("header", { className: "bar" }, el("div", { className: "controls" }, bar, this.verdict)),
      this.numbers,
      this.status,
      el("div", { className: "three two" }, ...nodes),
    );
    this.reset();
    this.theme();
  }

  reset() {
    this.points = Float64Array.from(this.given);
    this.moved();
    this.say("");
    this.set(this.start);
  }

  say(words, bad = false) {
    this.status.textContent = words;
    this.status.classList.toggle("bad", bad);
  }

  set(p, began) {
    this.p = p / 100;
    this.ratio.show(p);
    this.now = null;
    this.redraw(began);
  }

  /** Points have moved: everything is trained anew with the next frame. */
  moved(began) {
    this.stage1 = this.dr = this.now = null;
    this.redraw(began);
  }

  ready() {
    this.stage1 ??= train(this.points, this.labels, this.decay);
    this.dr ??= train(drawn(this, 0), this.drawnLabels, this.decay);
    if (!this.now) {
      this.draws = drawn(this, this.p);
      this.now = train(this.draws, this.drawnLabels, this.decay);
    }
    return true;
  }

  /** Each classifier with its name and line. */
  kinds() {
    return [
      { name: "stage 1", theta: this.stage1, dash: [2, 4], width: 2 },
      { name: "DR (p = 0)", theta: this.dr, dash: [8, 5], width: 2 },
      { name: `H2T (p = ${this.p.toFixed(2)})`, theta: this.now, dash: [], width: 3.5 },
    ];
  }

  write() {
    const found = this.kinds().map(({ name, theta }) => [name, regions(theta, this.test)]);
    const keys = Object.keys(MEASURES);
    const rows = found.map(([name, own]) => [name, ...keys.map((key) => own[key].toFixed(1))]);
    this.numbers.replaceChildren(table(["", ...Object.values(MEASURES)], rows));
    const [dr, now] = found.slice(1).map(([, own]) => own);
    this.verdict.textContent =
      `From DR to H2T the tail's region goes from ${dr.region.toFixed(1)} to ` +
      `${now.region.toFixed(1)} % (50 is fair), and balanced accuracy changes by ` +
      `${signed(now.balanced - dr.balanced)} points.`;
  }
}

/** The plane: points to drag, what was drawn from them, three boundaries, and the forces on two. */
class Plane extends Figure {
  constructor(toy) {
    super(toy, "plane", "Drag any point");
    this.chosen = toy.labels.indexOf(1);
    const { canvas } = this;
    canvas.tabIndex = 0;
    canvas.dataset.lmSuppressShortcuts = "true";
    canvas.setAttribute(
      "aria-label",
      "two classes in the plane; space chooses a tail point, arrow keys move it",
    );
    canvas.addEventListener("pointerdown", (e) => this.take(e));
    canvas.addEventListener("pointermove", (e) => this.held !== undefined && this.pull(e));
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, () => (this.held = undefined));
    // a finger on a point drags it; anywhere else it scrolls the page
    const touch = (e) => this.near(this.at(e.touches[0])) >= 0 && e.preventDefault();
    canvas.addEventListener("touchstart", touch, { passive: false });
    canvas.addEventListener("keydown", (e) => this.key(e));
    for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, () => toy.redraw());
  }

  /** The point at a place of the canvas, a tail's sooner than a head's, or -1. */
  near([px, py]) {
    const { points, labels } = this.app;
    let [best, closest] = [-1, 14];
    for (let k = 0; k < labels.length; k++) {
      const far = Math.hypot(this.x(points[2 * k]) - px, this.y(points[2 * k + 1]) - py);
      const counted = labels[k] ? far - 8 : far;
      if (counted < closest) [best, closest] = [k, counted];
    }
    return best;
  }

  take(event) {
    const k = this.near(this.at(event));
    if (k < 0) return;
    this.held = this.chosen = k;
    this.canvas.setPointerCapture(event.pointerId);
    this.app.tip.hide();
  }

  pull(event) {
    this.put(
      this.at(event).map((v, d) => [this.x, this.y][d].back(v)),
      event.timeStamp,
    );
  }

  put(to, began) {
    const within = (v) => Math.max(-1.6 * REACH, Math.min(1.6 * REACH, v));
    to.forEach((v, d) => (this.app.points[2 * this.chosen + d] = within(v)));
    this.app.moved(began);
  }

  key(event) {
    const { points, labels } = this.app;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.key === " ") {
      const next = labels.indexOf(1, this.chosen + 1);
      this.chosen = next < 0 ? labels.indexOf(1) : next;
      this.app.redraw();
    } else if (event.key in step) {
      const by = step[event.key];
      this.put(
        by.map((s, d) => points[2 * this.chosen + d] + 0.1 * s),
        event.timeStamp,
      );
    } else return;
    event.preventDefault();
  }

  hover(event) {
    if (this.held !== undefined || !this.x) return;
    const k = this.near(this.at(event));
    this.canvas.style.cursor = k < 0 ? "default" : "grab";
    const title = `a training point of the ${this.app.labels[k] ? "tail" : "head"}`;
    if (k < 0) this.app.tip.hide();
    else this.app.tip.show(event, { title, lines: ["drag it"] });
  }

  draw(pen, width, height) {
    const { app } = this;
    const { colours, size } = app;
    const unit = Math.min(width, height) / (2 * REACH);
    this.x = scale([-1, 1], [width / 2 - unit, width / 2 + unit]);
    this.y = scale([-1, 1], [height / 2 + unit, height / 2 - unit]);
    area(pen, this.side(app.now, 1), colours.few, 0.13);
    area(pen, this.side(app.now, -1), colours.many, 0.1);
    this.grafted(pen);
    this.training(pen);
    for (const { theta, dash, width: thick } of app.kinds())
      line(pen, this.side(theta, 1).slice(0, 2), { colour: colours.all, width: thick, dash });
    for (const [theta, along] of [
      [app.dr, -2.4],
      [app.now, 2.4],
    ]) {
      const [pull, push] = forces(theta, app.draws, app.drawnLabels);
      this.arrow(pen, theta, along, -pull, colours.few);
      this.arrow(pen, theta, along, push, colours.many);
    }
    this.legend(pen, size);
  }

  /** Corners on the screen of the half plane of one sign; the first two lie on the boundary. */
  side(theta, sign) {
    const [u, v] = [theta[0] / length(theta), theta[1] / length(theta)];
    const far = 8 * REACH;
    const [x, y] = [u * position(theta), v * position(theta)];
    const corners = [
      [x - far * v, y + far * u],
      [x + far * v, y - far * u],
    ];
    const beyond = corners.map(([a, b]) => [a + sign * far * u, b + sign * far * v]).reverse();
    return [...corners, ...beyond].map(([a, b]) => [this.x(a), this.y(b)]);
  }

  grafted(pen) {
    const { draws, drawnLabels, colours } = this.app;
    const tails = [...drawnLabels.keys()].filter((k) => drawnLabels[k]);
    pen.lineWidth = 1.2;
    pen.globalAlpha = 0.6;
    for (let n = 0; n < tails.length; n += Math.max(1, Math.floor(tails.length / 250))) {
      const k = tails[n];
      mark(pen, "diamond", this.x(draws[2 * k]), this.y(draws[2 * k + 1]), 3.2, colours.few);
    }
    pen.globalAlpha = 1;
  }

  training(pen) {
    const { points, labels, colours } = this.app;
    labels.forEach((label, k) => {
      const at = [this.x(points[2 * k]), this.y(points[2 * k + 1])];
      pen.globalAlpha = label ? 1 : 0.5;
      if (label) mark(pen, "triangle", ...at, 9, colours.back);
      mark(
        pen,
        label ? "triangle" : "circle",
        ...at,
        label ? 7 : 2.2,
        colours[label ? "few" : "many"],
      );
      pen.globalAlpha = 1;
      pen.lineWidth = 2;
      const here = this.held === k || (document.activeElement === this.canvas && this.chosen === k);
      if (here) mark(pen, "ring", ...at, 12, colours.text);
    });
  }

  /** An arrow on a boundary, `along` it from its middle; above 0 it points to the tail. */
  arrow(pen, theta, along, force, colour) {
    const [u, v] = [theta[0] / length(theta), theta[1] / length(theta)];
    const reach = ARROW * Math.abs(force);
    const head = Math.min(reach, 0.5); // a weak force is a small arrow, not a head without a shaft
    const [x, y] = [u * position(theta) - along * v, v * position(theta) + along * u];
    const shaft = [0, 0.24 * head];
    const outline = [shaft, [reach - head, shaft[1]], [reach - head, 0.72 * head], [reach, 0]];
    const whole = [...outline, ...outline.map(([way, across]) => [way, -across]).reverse()];
    const corners = whole.map(([way, across]) => {
      const forward = way * Math.sign(force);
      return [this.x(x + forward * u - across * v), this.y(y + forward * v + across * u)];
    });
    area(pen, corners, colour, 1);
    // the edge would outweigh a weak force
    line(pen, [...corners, corners[0]], { colour: this.app.colours.back, width: 1.6 * head });
  }

  legend(pen, size) {
    const { app } = this;
    const { colours, labels } = app;
    const tails = labels.reduce((a, b) => a + b, 0);
    const how = { colour: colours.text, size: 0.95 * size, halo: colours.back };
    const rows = [
      ["circle", 3, colours.many, `head, ${labels.length - tails} points`],
      ["triangle", 6, colours.few, `tail, ${tails} points`],
      ["diamond", 3.2, colours.few, "fused tail draws"],
    ];
    let y = size;
    for (const [shape, r, colour, words] of rows) {
      pen.lineWidth = 1.2;
      mark(pen, shape, 18, y, r, colour);
      text(pen, words, 36, y, how);
      y += 1.4 * size;
    }
    for (const { name, dash, width } of app.kinds()) {
      line(
        pen,
        [
          [6, y],
          [30, y],
        ],
        { colour: colours.all, width, dash },
      );
      text(pen, name, 36, y, how);
      y += 1.4 * size;
    }
  }
}

/** Pull and push where the solid line is slid along its normal: it can stay where they cross. */
class Balance extends Figure {
  constructor(toy) {
    super(toy, "balance", "Two forces");
  }

  draw(pen, width, height) {
    const { app } = this;
    const { colours, size, now } = app;
    const box = { left: 4 * size, right: width - 10, top: 4.6 * size, bottom: height - 3.2 * size };
    const x = scale([-3, 3], [box.left, box.right]);
    const y = scale([0, 0.5], [box.bottom, box.top]);
    const label = "the solid line slid: − towards head, + towards tail";
    axes(
      pen,
      box,
      { scale: x, ticks: ticks(-3, 3, 6), label },
      { scale: y, ticks: ticks(0, 0.5, 5), label: "force: mean probability of the wrong class" },
      colours,
      size,
    );
    const at = SLIDE.map((s) => forces(now, app.draws, app.drawnLabels, -s * length(now)));
    [colours.few, colours.many].forEach((colour, k) => {
      const points = at.map((both, n) => [x(SLIDE[n]), y(both[k])]);
      line(pen, points, { colour, width: 3, dash: k ? [9, 3, 2, 3] : [] });
    });
    for (const { theta, dash, width: thick } of app.kinds().slice(1)) {
      const here = x(position(theta));
      const ends = [
        [here, box.top],
        [here, box.bottom],
      ];
      line(pen, ends, { colour: colours.all, width: thick, dash });
    }
    const [, push] = forces(now, app.draws, app.drawnLabels);
    mark(pen, "circle", x(position(now)), y(push), 6, colours.back);
    pen.lineWidth = 2.5;
    mark(pen, "ring", x(position(now)), y(push), 6, colours.all);
    this.words(pen, box, size);
  }

  words(pen, box, size) {
    const { app } = this;
    const { colours } = app;
    const names = ["tail's pull", "head's push"];
    names.forEach((name, k) => {
      const left = box.left + k * 9 * size;
      const colour = k ? colours.many : colours.few;
      const ends = [
        [left, 0.8 * size],
        [left + 2 * size, 0.8 * size],
      ];
      line(pen, ends, { colour, width: 3, dash: k ? [9, 3, 2, 3] : [] });
      text(pen, name, left + 2.5 * size, 0.8 * size, { colour: colours.text, size });
    });
    const how = { colour: colours.soft, size: 0.95 * size };
    const of = (theta) => forces(theta, app.draws, app.drawnLabels);
    this.measured = { "dashed (DR)": of(app.dr), "solid (H2T)": of(app.now) };
    Object.entries(this.measured).forEach(([name, [pull, push]], k) => {
      const words = `on the ${name}: pull ${pull.toFixed(2)}, push ${push.toFixed(2)}`;
      text(pen, words, box.left, (2.2 + 1.25 * k) * size, how);
    });
  }
}
