// Figures that one looks at next: the map, the images that changed, where a class goes, fusion by
// BN statistics.

import { Figure, area, el, line, mark, scale, text, ticks } from "./draw.js";
import { fusedOf } from "./plane.js";
import { GROUPS, short } from "./store.js";

const COLOURINGS = { class: "the two classes", group: "group", changed: "what changed" };

/** The map of test features; drag a lasso to list images. */
export class FeatureMap extends Figure {
  constructor(app) {
    super(app, "map", "Map of the features");
    this.back = document.createElement("canvas"); // the points, which stay while fused ones move
    this.lasso = null;
    const option = (value, words) => el("option", { value }, words);
    this.colouring = el(
      "select",
      { "aria-label": "colour of the map's points", onchange: () => this.again() },
      ...Object.entries(COLOURINGS).map(([v, w]) => option(v, `colour: ${w}`)),
    );
    this.which = el(
      "select",
      { "aria-label": "features on the map", onchange: () => this.ask() },
      option("all", "all test images"),
      option("pair", "the two classes"),
    );
    this.save = el(
      "button",
      { type: "button", disabled: true, onclick: () => this.saveList() },
      "Save list",
    );
    this.list = el("div", { className: "tiles" });
    this.note = el("p", { className: "note" });
    this.tools = el("div", { className: "tools" }, this.colouring, this.which, this.save);
    this.node.append(this.tools, this.note, this.list);
    this.canvas.addEventListener("pointerdown", (e) => {
      if (e.pointerType === "touch" && !e.isPrimary) return;
      this.canvas.setPointerCapture(e.pointerId);
      this.lasso = [this.at(e)];
    });
    this.canvas.addEventListener("pointermove", (e) => {
      if (!this.lasso) return;
      this.lasso.push(this.at(e));
      app.redraw();
    });
    this.canvas.addEventListener("pointerup", () => this.choose());
  }

  ask() {
    const { head, tail } = this.app.state;
    const classes = this.which.value === "pair" ? [head, tail] : null;
    this.app.store.send({ do: "map", classes });
  }

  again() {
    this.drawn = null;
    this.app.redraw();
  }

  /** Colours in the order in which they are drawn, and for every point the number of its own. */
  kinds() {
    const { store, state, colours } = this.app;
    const { index } = store.map;
    const own = new Uint8Array(index.length);
    if (this.colouring.value === "changed") {
      const [was, is] = [this.app.reference().fit.predicted, this.app.now().predicted];
      for (let k = 0; k < index.length; k++) {
        const c = store.labels[index[k]];
        const right = is[index[k]] === c;
        if (right !== (was[index[k]] === c)) own[k] = right ? 1 : 2;
      }
      return { palette: [colours.faint, colours.now, colours.few], own };
    }
    const grouped = this.colouring.value === "group";
    const numbers = Uint8Array.from(store.groupOf, (g, c) => {
      if (grouped) return GROUPS.indexOf(g);
      return c === state.tail ? 2 : Number(c === state.head);
    });
    for (let k = 0; k < own.length; k++) own[k] = numbers[store.labels[index[k]]];
    const palette = grouped
      ? GROUPS.map((g) => colours[g])
      : [colours.faint, colours.many, colours.few];
    return { palette, own };
  }

  draw(pen, width, height) {
    const { store, state, colours, size } = this.app;
    const { map } = store;
    if (!map) {
      text(pen, "the map is being made …", 12, 20, { colour: colours.soft, size });
      return;
    }
    const moving =
      this.colouring.value === "changed" ? [state.p, state.reference, store.fits.size] : [];
    const key = [map.xy, width, height, this.colouring.value, colours.back, state.head, state.tail];
    if (!same(this.placedOn, key.slice(0, 3))) this.lay(key.slice(0, 3));
    const fresh = [...key, ...moving];
    if (!("drawImage" in pen)) this.points((...square) => pen.fillRect(...square), pen);
    else {
      if (!same(this.drawn, fresh)) this.pixels(width, height);
      pen.drawImage(this.back, 0, 0, width, height);
    }
    this.drawn = fresh;
    this.extra(pen, width, height);
    const few = map.few ? `, ${map.few} more not drawn` : "";
    const going = map.done ? "" : " (converging …)";
    this.title.textContent = `t-SNE map of ${map.index.length} test images${few}${going}`;
  }

  /** Where every point lies on a canvas of a size. */
  lay(key) {
    const [all, width, height] = key;
    this.placedOn = key;
    const span = [0, 1].map((k) => {
      let [low, high] = [Infinity, -Infinity];
      for (let i = k; i < all.length; i += 2) {
        if (all[i] < low) low = all[i];
        if (all[i] > high) high = all[i];
      }
      return [low, high];
    });
    const x = scale(span[0], [10, width - 10]);
    const y = scale(span[1], [height - 10, 10]);
    this.xy = Float32Array.from(all, (v, k) => (k % 2 ? y(v) : x(v)));
  }

  /** All points as squares, for a `put(x, y, width, height)`; `pen` takes the colours. */
  points(put, pen) {
    const { palette, own } = this.kinds();
    const n = own.length;
    const small = n > 20000 ? 1.6 : n > 3000 ? 2.4 : 4;
    palette.forEach((colour, kind) => {
      pen.fillStyle = colour;
      const side = kind && this.colouring.value !== "group" ? 1.5 * small : small;
      for (let k = 0; k < n; k++)
        if (own[k] === kind)
          put(this.xy[2 * k] - side / 2, this.xy[2 * k + 1] - side / 2, side, side);
    });
  }

  /** The points, pixel by pixel: ten thousands of rectangles would take the browser too long. */
  pixels(width, height) {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.image?.width !== w || this.image?.height !== h) {
      Object.assign(this.back, { width: w, height: h });
      this.image = this.back.getContext("2d").createImageData(w, h);
      this.words = new Uint32Array(this.image.data.buffer);
    }
    const { words } = this;
    words.fill(0);
    const ink = {
      set fillStyle(colour) {
        const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
        this.word = (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
      },
    };
    const put = (x, y, side) => {
      const thick = Math.max(1, Math.round(side * ratio));
      const [left, top] = [Math.round(x * ratio), Math.round(y * ratio)];
      for (let row = top; row < top + thick; row++)
        words.fill(ink.word, row * w + left, row * w + left + thick);
    };
    this.points(put, ink);
    this.back.getContext("2d").putImageData(this.image, 0, 0);
  }

  /**
   * The fused features near their neighbours, the chosen image, the lasso, and the points that
   * answer.
   */
  extra(pen) {
    const { store, state, colours } = this.app;
    const { map } = store;
    if (!this.app.dragging) this.placed = this.placeFused();
    pen.lineWidth = 1.7;
    pen.globalAlpha = this.app.dragging ? 0.25 : 1;
    for (const [x, y] of this.placed ?? []) mark(pen, "cross", x, y, 4, colours.fused);
    pen.globalAlpha = 1;
    const chosen = map.index.indexOf(state.image);
    if (chosen >= 0)
      mark(pen, "ring", this.xy[2 * chosen], this.xy[2 * chosen + 1], 9, colours.text);
    if (this.lasso) {
      area(pen, this.lasso, colours.now, 0.15);
      line(pen, this.lasso, { colour: colours.now });
    }
  }

  /** Fused features at the mean of their five nearest neighbours among the features on the map. */
  placeFused() {
    const { store, state } = this.app;
    const { map, D } = { map: store.map, D: store.D };
    const key = [map.xy, state.p, state.tail, store.key, store.classes.size, this.xy];
    if (same(this.placedFor, key)) return this.placed;
    this.placedFor = key;
    const every = Math.max(1, Math.ceil(map.index.length / 4000));
    return fusedOf(store, state.tail, state.p).map((z) => {
      const best = [];
      for (let k = 0; k < map.index.length; k += every) {
        const at = map.index[k] * D;
        let far = 0;
        const limit = best.length < 5 ? Infinity : best[4][0];
        for (let d = 0; d < D && far < limit; d++) far += (store.test[at + d] - z[d]) ** 2;
        if (far >= limit) continue;
        best.push([far, k]);
        best.sort((a, b) => a[0] - b[0]);
        best.length = Math.min(best.length, 5);
      }
      const mean = (c) => best.reduce((s, [, k]) => s + this.xy[2 * k + c], 0) / best.length;
      return [mean(0), mean(1)];
    });
  }

  nearest([px, py]) {
    const { store } = this.app;
    if (!this.xy || !store.map) return null;
    let [best, closest] = [-1, 64];
    for (let k = 0; k < store.map.index.length; k++) {
      const far = (this.xy[2 * k] - px) ** 2 + (this.xy[2 * k + 1] - py) ** 2;
      if (far < closest) [best, closest] = [k, far];
    }
    if (best < 0) return null;
    const image = store.map.index[best];
    return { about: () => this.app.aboutImage(image), act: () => this.app.set({ image }) };
  }

  choose() {
    const { store } = this.app;
    const { lasso } = this;
    this.lasso = null;
    if (!lasso || lasso.length < 8) return this.app.redraw();
    const inside = (x, y) => {
      let odd = false;
      for (let i = 0, j = lasso.length - 1; i < lasso.length; j = i++) {
        const [[xi, yi], [xj, yj]] = [lasso[i], lasso[j]];
        if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
      }
      return odd;
    };
    const found = [];
    store.map.index.forEach((image, k) => {
      if (inside(this.xy[2 * k], this.xy[2 * k + 1])) found.push(image);
    });
    this.found = found;
    this.save.disabled = !found.length;
    this.note.textContent = `${found.length} test images inside the lasso`;
    showTiles(this.app, this.list, found.slice(0, 60));
    this.app.redraw();
  }

  saveList() {
    const { store } = this.app;
    const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
    const now = this.app.now();
    const rows = this.found.map((k) => {
      const names = [store.labels[k], now.predicted[k]].map((c) => quoted(store.base.classes[c]));
      return [store.index[k], ...names].join(",");
    });
    const table = ["test image,label,prediction", ...rows].join("\n") + "\n";
    this.app.download("images.csv", new Blob([table], { type: "text/csv" }));
  }
}

const same = (before, after) => before && after.every((v, k) => v === before[k]);

/** Put images with what they are and were called into a node; nodes are used again. */
export function showTiles(app, node, places) {
  app.store.needImages(places);
  while (node.children.length > places.length) node.lastChild.remove();
  while (node.children.length < places.length) node.append(tile(app));
  places.forEach((k, n) => {
    const { children } = node;
    const one = children[n];
    one.image = k;
    one.classList.toggle("chosen", k === app.state.image);
    app.picture(one.firstChild, k);
    const { title, lines } = app.aboutImage(k, true);
    const said = [title, ...lines];
    one.lastChild.replaceChildren(...said.map((s) => el("span", {}, s)));
  });
}

function tile(app) {
  const words = el("span", { className: "words" });
  const node = el(
    "button",
    { type: "button", className: "tile" },
    el("canvas", { width: 64, height: 64 }),
    words,
  );
  node.addEventListener("click", () => app.set({ image: node.image }));
  node.addEventListener("pointermove", (e) => app.tip.show(e, app.aboutImage(node.image)));
  node.addEventListener("pointerleave", () => app.tip.hide());
  return node;
}

/** Test images that the reference and the current classifier disagree on. */
export class Changed {
  constructor(app) {
    Object.assign(this, { app, name: "changed" });
    this.parts = ["gained", "lost"].map((what) => {
      const title = el("h4");
      const tiles = el("div", { className: "tiles" });
      return { what, title, tiles, node: el("section", {}, title, tiles) };
    });
    this.node = el("div", { className: "changed" }, ...this.parts.map((p) => p.node));
  }

  get visible() {
    return this.node.isConnected && this.node.offsetParent !== null;
  }

  paint() {
    const { app } = this;
    const { name, fit } = app.reference();
    const lists = app.store.changed(fit, app.now());
    for (const { what, title, tiles } of this.parts) {
      const list = lists[what];
      const shown = list.slice(0, 24);
      const more = list.length > shown.length ? `, the ${shown.length} of the rarest classes` : "";
      const verb = what === "gained" ? "right now, wrong" : "wrong now, right";
      title.textContent = `${what}: ${list.length} images ${verb} by ${name}${more}`;
      if (!app.dragging) showTiles(app, tiles, shown);
    }
  }
}

/**
 * Where the class looked at goes, and what is taken for it: its row and column of the confusion
 * matrix.
 */
export class Flow extends Figure {
  draw(pen, width, height) {
    const { store, state, colours, size } = this.app;
    const c = state.look ?? state.tail;
    const kinds = this.app.kinds();
    const all = kinds.map((k) => store.confusion(k.fit, c));
    const called = short(store.base.classes[c], 24);
    this.title.textContent = `Where ${called} goes, and what is taken for it (test images)`;
    let along = 8;
    for (const { name, colour } of kinds) {
      pen.fillStyle = colour;
      pen.fillRect(along, 0.4 * size, 0.8 * size, 0.8 * size);
      text(pen, name, along + 1.1 * size, 0.8 * size, { colour: colours.text, size: 0.92 * size });
      along += 2.6 * size + pen.measureText(name).width;
    }
    const narrow = width < 560;
    ["row", "column"].forEach((side, k) => {
      const half = narrow ? height / 2 : height;
      const box = {
        left: (narrow ? 0 : (k * width) / 2) + 9.5 * size,
        right: narrow ? width - 10 : ((k + 1) * width) / 2 - 14,
        top: (narrow ? k * half : 0) + 3.2 * size,
        bottom: (narrow ? (k + 1) * half : height) - 2 * size,
      };
      this.side(
        pen,
        side,
        box,
        all.map((one) => one[side]),
        kinds,
        c,
      );
    });
  }

  side(pen, which, box, counts, kinds, c) {
    const { store, colours, size } = this.app;
    const words = which === "row" ? "its images are called …" : "called so, but really …";
    text(pen, words, box.left, box.top - 0.9 * size, { colour: colours.soft, size, bold: true });
    // who is shown follows stage 1 and the reference, so that nothing jumps while dragging
    const total = Array.from(counts[0], (n, k) => n + counts[counts.length - 2][k]);
    const others = [...total.keys()]
      .filter((k) => k !== c)
      .sort((a, b) => total[b] - total[a] || a - b);
    const shown = [c, ...others.slice(0, 6)];
    const names = [...shown.map((k) => short(store.base.classes[k], 14)), "all others"];
    const values = counts.map((row) => {
      const own = shown.map((k) => row[k]);
      const rest = row.reduce((a, b) => a + b, 0) - own.reduce((a, b) => a + b, 0);
      return [...own, rest];
    });
    const most = Math.max(store.totals[c], ...values.flat(), 1);
    const x = scale([0, most], [box.left, box.right]);
    const step = (box.bottom - box.top) / names.length;
    for (const t of ticks(0, most, 4)) {
      line(
        pen,
        [
          [x(t), box.top],
          [x(t), box.bottom],
        ],
        { colour: colours.grid, width: 1 },
      );
      text(pen, String(t), x(t), box.bottom + 0.9 * size, {
        colour: colours.soft,
        size: 0.9 * size,
        align: "center",
      });
    }
    names.forEach((name, n) => {
      const y = box.top + n * step;
      const bold = n === 0;
      text(pen, name, box.left - 6, y + step / 2, {
        colour: colours.text,
        size: 0.95 * size,
        bold,
        align: "right",
      });
      const thick = (0.8 * step) / kinds.length;
      kinds.forEach(({ colour }, k) => {
        pen.fillStyle = colour;
        const top = y + 0.1 * step + k * thick;
        pen.fillRect(box.left, top, Math.max(0, x(values[k][n]) - box.left), thick - 0.5);
      });
      const about = () => ({
        title: name,
        lines: kinds.map((kind, k) => `${kind.name}: ${values[k][n]} images`),
      });
      const inside = (px, py) =>
        px >= box.left - 9 * size && px <= box.right && py >= y && py < y + step;
      const k = shown[n];
      this.hits.push({ inside, about, act: k === undefined ? null : () => this.app.look(k) });
    });
  }
}

/**
 * What fusion does and what BN statistics do: the run's own steps, exact, beside what is drawn
 * here.
 */
export class Statistics {
  constructor(app) {
    Object.assign(this, { app, name: "statistics" });
    this.node = el("div", { className: "statistics" });
  }

  get visible() {
    return this.node.isConnected && this.node.offsetParent !== null;
  }

  paint() {
    const { app } = this;
    const key = [app.store.key, app.state.p, app.store.fits.size].join();
    if (this.drawn === key) return;
    this.drawn = key;
    this.node.replaceChildren(
      app.statisticsTable(),
      el("p", { className: "note" }, app.aboutStatistics()),
    );
  }
}
