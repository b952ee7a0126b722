// The explorer: its state, what it says in numbers and words, and the loop that draws.

import { el, signed, table } from "./draw.js";
import { Boundary, ByClass, Curve } from "./figures.js";
import { Front } from "./front.js";
import { Layout } from "./layout.js";
import { GROUPS, short, shown } from "./store.js";
import { Changed, FeatureMap, Flow, Statistics } from "./tabs.js";

const NAMES = ["back", "text", "soft", "grid", "faint", "stage1", "zero", "now", "pinned", "fused"];
const COLOURS = [...NAMES, ...GROUPS, ...GROUPS.map((g) => `${g}-text`)];

export class App extends Front {
  /**
   * `root` to fill; `store` of what comes; `address` whether the state lives in the page's address.
   */
  constructor(root, store, { address = false } = {}) {
    super(root, COLOURS);
    Object.assign(this, { store, address, pin: null, state: {} });
    this.listen = (kind, frame) => this.hear(kind, frame);
    store.listeners.add(this.listen);
    root.append(el("p", { className: "opening" }, "The explorer is opening …"));
  }

  close() {
    this.store.listeners.delete(this.listen);
    clearTimeout(this.writing);
    super.close();
  }

  hear(kind, frame) {
    if (kind === "base" && !this.layout) this.begin(frame);
    if (!this.layout) return;
    if (kind === "base" || kind === "busy") this.layout.follow(this.store.settings);
    if (kind === "status") this.layout.say(frame.text, frame.bad);
    if (kind === "fits" && !this.opened) {
      this.opened = true;
      this.root.classList.remove("waiting");
    }
    this.layout.progress(this.store.busy);
    this.redraw();
  }

  begin(base) {
    const { head, tail } = base;
    this.origin = {
      p: this.snap(base.p), // a saved page may have fewer positions
      head,
      tail,
      look: tail,
      reference: "zero",
      image: null,
      tab: "changed",
      figure: "boundary",
    };
    this.state = { ...this.origin, lecture: false };
    this.figures = [
      new ByClass(this, "classes", "Accuracy by class"),
      new Curve(this, "curve", "Accuracy against the fusion ratio"),
      new Boundary(this, "boundary", "Boundary"),
      new Changed(this),
      new Flow(this, "flow", "Where a class goes"),
      new FeatureMap(this),
      new Statistics(this),
    ];
    this.root.replaceChildren(this.tip.node);
    this.root.classList.add("waiting");
    this.layout = new Layout(this);
    this.theme();
    this.set(this.fromAddress());
  }

  // -- state ----------------------------------------------------------------------------------

  /** Change the state and draw; `began` is when the pointer or key moved. */
  set(changes, began = performance.now()) {
    Object.assign(this.state, changes);
    for (const c of [this.state.head, this.state.tail]) this.store.need(c);
    this.layout.show(this.state);
    this.redraw(began);
    clearTimeout(this.writing);
    this.writing = setTimeout(() => this.toAddress(), 250);
  }

  /** Look at a class: it and the class with which it is confused most become the pair. */
  look(c) {
    const { head, tail } = this.state;
    if (c === head || c === tail) return this.set({ look: c });
    const other = this.store.rival(c);
    const { counts } = this.store;
    const larger = counts[c] > counts[other] || (counts[c] === counts[other] && c < other);
    this.set({ look: c, head: larger ? c : other, tail: larger ? other : c });
  }

  snap(p) {
    return this.store.base.positions.reduce((a, b) => (Math.abs(b - p) < Math.abs(a - p) ? b : a));
  }

  fromAddress() {
    if (!this.address) return {};
    const given = new URLSearchParams(location.hash.slice(1) || location.search);
    const found = {};
    const whole = (name, high) => {
      const value = Number(given.get(name));
      if (given.get(name) && Number.isInteger(value) && value >= 0 && value <= high)
        found[name] = value;
    };
    whole("p", 100);
    for (const name of ["head", "tail", "look"]) whole(name, this.store.C - 1);
    whole("image", this.store.T - 1);
    const pair = { ...this.state, ...found };
    if (pair.head === pair.tail) {
      delete found.head;
      delete found.tail;
    }
    for (const name of ["tab", "figure", "reference"]) {
      const allowed = this.layout.allowed[name];
      if (allowed.includes(given.get(name))) found[name] = given.get(name);
    }
    found.lecture = new URLSearchParams(location.search).has("lecture") || given.has("lecture");
    if ("p" in found) found.p = this.snap(found.p);
    return found;
  }

  toAddress() {
    if (!this.address) return;
    const parts = new URLSearchParams();
    for (const name of ["p", "head", "tail", "look", "image", "tab", "figure", "reference"])
      if (this.state[name] !== null && this.state[name] !== this.origin[name])
        parts.set(name, this.state[name]);
    if (this.state.lecture) parts.set("lecture", "1");
    history.replaceState(null, "", `#${parts}`);
  }

  // -- what is compared -----------------------------------------------------------------------

  now() {
    return this.store.near(this.state.p);
  }

  /** What the current classifier is held against. */
  reference() {
    const { colours, store } = this;
    const all = {
      stage1: { name: "stage 1", fit: store.stage1, colour: colours.stage1 },
      zero: { name: store.base.at_zero, fit: store.near(0), colour: colours.zero },
      pinned: this.pin && { name: this.pin.name, fit: this.pin.fit, colour: colours.pinned },
    };
    const key = all[this.state.reference] ? this.state.reference : "zero";
    return { key, ...all[key] };
  }

  /** Stage 1, the reference and now, each with its colour and mark. */
  kinds() {
    const { colours, store } = this;
    const reference = this.reference();
    const middle = { shape: reference.key === "pinned" ? "triangle" : "square", ...reference };
    const kinds = [
      { name: "stage 1", fit: store.stage1, colour: colours.stage1, shape: "diamond" },
      ...(reference.key === "stage1" ? [] : [middle]),
      { name: "now", fit: this.now(), colour: colours.now, shape: "circle" },
    ];
    return kinds;
  }

  setPin() {
    const { p } = this.now();
    const { fusion, fusing_branch } = this.store.settings;
    const kind = fusion === "swap" ? "" : ` ${fusion}`;
    const branch = fusing_branch === "instance" ? "" : ` ${fusing_branch}`;
    this.pin = { name: `pinned p ${(p / 100).toFixed(2)}${kind}${branch}`, fit: this.now(), p };
    this.set({ reference: "pinned" });
  }

  // -- words ----------------------------------------------------------------------------------

  aboutClass(c) {
    const { store } = this;
    const lines = [`${store.counts[c]} training images (${store.groupOf[c]})`];
    for (const { name, fit } of this.kinds())
      lines.push(`${name}: ${store.perClass(fit.correct)[c].toFixed(1)} % right`);
    return { title: store.base.classes[c], lines };
  }

  aboutImage(k, brief = false) {
    const { store } = this;
    const kinds = this.kinds().slice(brief ? -2 : 0);
    const lines = kinds.map(({ name, fit }) => {
      const { class: c, sure } = store.says(fit, k);
      const called = short(store.base.classes[c], brief ? 12 : 24);
      const when = name === "now" ? "now" : "was";
      return `${brief ? when : name}: ${(100 * sure).toFixed(0)} % ${called}`;
    });
    const title = short(store.base.classes[store.labels[k]], brief ? 14 : 40);
    return { title, lines, image: k };
  }

  /** The rows of the table of numbers: name, colour, accuracies by group and their spread. */
  rows() {
    const { store, colours } = this;
    const fit = this.now();
    const spread = (p) => Object.fromEntries(GROUPS.map((g) => [g, store.spread(p, g)?.std]));
    const rows = [
      [
        "stage 1",
        store.means(store.stage1.correct),
        {},
        colours.stage1,
        "as the run measured it, under its own BN statistics",
      ],
    ];
    const dr = store.base.steps.find((s) => s.step === "stage2-dr");
    if (store.base.at_zero !== "DR" && dr)
      rows.push([
        "DR",
        dr,
        {},
        colours.soft,
        "the run's own exact stage 2, BN sees balanced batches",
      ]);
    const zero = store.near(0);
    const why = {
      DR: "p = 0, BN sees balanced batches",
      control: "p = 0, with the same BN statistics as now",
    };
    rows.push([
      store.base.at_zero,
      store.means(zero.correct),
      spread(0),
      colours.zero,
      why[store.base.at_zero] ?? "p = 0",
    ]);
    if (this.pin)
      rows.push([this.pin.name, store.means(this.pin.fit.correct), {}, colours.pinned, "pinned"]);
    rows.push([
      `now, p ${(fit.p / 100).toFixed(2)}`,
      store.means(fit.correct),
      spread(fit.p),
      colours.now,
      "the classifier at the slider",
    ]);
    return rows;
  }

  /**
   * What fusion does here, in one sentence: the change from p = 0, and whether it is beyond the
   * spread over seeds.
   */
  verdict() {
    const { store } = this;
    const fit = this.now();
    const zero = store.base.at_zero;
    if (fit.p === 0) return `At p = 0 nothing is fused: this is ${zero}.`;
    if (!(store.curve?.seeds.length > 1))
      return `Compared with ${zero}: the spread over seeds is being trained …`;
    const parts = ["all", "many", "few"].flatMap((g) => {
      const s = store.spread(fit.p, g, true);
      if (!s) return [];
      const beyond = Math.abs(s.mean) > 2 * s.std ? "" : " (inside the spread)";
      return [`${g} ${signed(s.mean)} ± ${s.std.toFixed(1)}${beyond}`];
    });
    const at = (Math.round(fit.p / 10) / 10).toFixed(1);
    const seeds = store.curve.seeds.length;
    return (
      `Against ${zero}, at p = ${at} over ${seeds} seeds of stage 2, points: ` +
      `${parts.join(", ")}.`
    );
  }

  aboutStatistics() {
    const { store } = this;
    const words = {
      both: "both streams, as in the published H2T run",
      balanced: "the balanced stream alone, as in the published DR run",
      none: "no stream: they stay those of stage 1",
    };
    const seen = words[store.base.statistics];
    const here = `Everything trained here is tested under BN statistics of ${seen}.`;
    const cells = store.base.steps.filter((s) => s.step !== "stage1").length;
    const rest = cells
      ? "Rows of the run are its own exact steps."
      : "The run has no exact stage 2 yet; `h2t run RECIPE -p control true` trains all four " +
        "cells of fusion by BN statistics.";
    return `${here} ${rest}`;
  }

  statisticsTable() {
    const { store } = this;
    const rows = [
      ["stage 1, its own BN statistics", store.means(store.stage1.correct)],
      ["stage 1, BN statistics re-estimated", store.means(store.correct_again)],
      ...store.base.steps
        .filter((s) => s.step !== "stage1")
        .map((s) => [`${s.name} (exact, ${s.step})`, s]),
      [`${store.base.at_zero}: p = 0, here`, store.means(store.near(0).correct)],
      [`now: p = ${(this.now().p / 100).toFixed(2)}, here`, store.means(this.now().correct)],
    ];
    return table(
      ["test accuracy, %", ...GROUPS],
      rows.map(([name, means]) => [name, ...GROUPS.map((g) => shown(means[g], 2))]),
    );
  }

  // -- drawing --------------------------------------------------------------------------------

  ready() {
    return this.layout && this.now();
  }

  write() {
    this.layout.numbers(this.rows(), this.verdict());
  }

  /** Draw a test image's thumbnail into a canvas, as soon as it is there. */
  picture(canvas, k) {
    const tile = this.store.tiles.get(this.store.index[k]);
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (!tile) return this.store.needImages([k]);
    const { sheet, x, y, w, h } = tile;
    const factor = Math.min(canvas.width / w, canvas.height / h);
    pen.imageSmoothingEnabled = factor < 1;
    const [dw, dh] = [w * factor, h * factor];
    pen.drawImage(sheet, x, y, w, h, (canvas.width - dw) / 2, (canvas.height - dh) / 2, dw, dh);
  }

  download(name, blob) {
    const link = el("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}
