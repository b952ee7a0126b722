// What the frames have brought, and what follows from it: accuracies, confidences, who is taken for
// whom.

import { unpack } from "./frame.js";

export const GROUPS = ["many", "medium", "few", "all"];

export class Store {
  constructor() {
    this.fits = new Map(); // position -> {p, weight, bias, predicted, correct}
    this.classes = new Map(); // class -> {train, centre}
    this.tiles = new Map(); // test image -> {sheet, x, y, w, h}
    this.asked = { classes: new Set(), images: new Set() };
    this.listeners = new Set();
    this.key = null;
    this.send = () => {};
  }

  /** Take in a frame (ArrayBuffer) and tell the listeners its kind. */
  async take(buffer) {
    const frame = unpack(buffer);
    const { kind, arrays } = frame;
    if (frame.settings && kind !== "base") this.follow(frame.settings);
    if (kind === "base") this.begin(frame);
    else if (kind === "fits") this.takeFits(frame);
    else if (kind === "class") this.classes.set(frame.class, { ...frame, ...arrays });
    else if (kind === "images") await this.takeImages(frame);
    else this[kind] = { ...frame, ...arrays };
    for (const tell of this.listeners) tell(kind, frame);
  }

  begin(frame) {
    Object.assign(this, frame.arrays);
    this.base = frame;
    this.C = frame.classes.length;
    this.D = frame.arrays.test.shape[1];
    this.T = frame.arrays.labels.length;
    this.place = new Map(Array.from(frame.arrays.index, (i, k) => [i, k]));
    this.stage1 = {
      weight: frame.arrays.weight,
      bias: frame.arrays.bias,
      predicted: frame.arrays.first,
      correct: frame.arrays.correct,
    };
    this.groupOf = Array.from({ length: this.C }, () => "all");
    for (const [g, members] of Object.entries(frame.groups))
      for (const c of members) this.groupOf[c] = g;
    this.byCount = Array.from({ length: this.C }, (_, c) => c).sort(
      (a, b) => this.counts[b] - this.counts[a] || a - b,
    );
    this.follow(frame.settings);
  }

  /** What was trained under other settings goes. */
  follow(settings) {
    const key = JSON.stringify(settings);
    if (key === this.key) return;
    this.key = key;
    this.settings = settings;
    this.fits.clear();
    this.curve = this.fused = undefined;
  }

  takeFits({ positions, arrays }) {
    const { weight, bias, predicted, correct } = arrays;
    positions.forEach((alike, k) => {
      const part = (a) =>
        a.subarray((k * a.length) / positions.length, ((k + 1) * a.length) / positions.length);
      const fit = {
        weight: part(weight),
        bias: part(bias),
        predicted: part(predicted),
        correct: part(correct),
      };
      for (const p of alike) this.fits.set(p, { ...fit, p });
    });
  }

  async takeImages({ width, height, columns, arrays }) {
    const blob = new Blob([arrays.sheet], { type: "image/webp" });
    const sheet = await createImageBitmap(blob);
    arrays.index.forEach((image, k) => {
      const x = (k % columns) * width;
      const y = Math.floor(k / columns) * height;
      this.tiles.set(image, { sheet, x, y, w: width, h: height });
    });
  }

  /** The classifier at a position, or the nearest one that is ready. */
  near(p) {
    for (let far = 0; far <= 100; far++) {
      const fit = this.fits.get(p - far) ?? this.fits.get(p + far);
      if (fit) return fit;
    }
    return null;
  }

  /** Ask for a class's training features, once. */
  need(c) {
    if (this.classes.has(c) || this.asked.classes.has(c)) return;
    this.asked.classes.add(c);
    this.send({ do: "class", class: c });
  }

  /** Ask for thumbnails that are not there, by place among the test images shown, once. */
  needImages(places) {
    const missing = places
      .map((k) => this.index[k])
      .filter((i) => !this.tiles.has(i) && !this.asked.images.has(i));
    if (!missing.length) return;
    for (const i of missing) this.asked.images.add(i);
    for (let k = 0; k < missing.length; k += 200)
      this.send({ do: "images", index: missing.slice(k, k + 200) });
  }

  /** Accuracy in % by class, NaN for a class without test images. */
  perClass(correct) {
    return Array.from(correct, (n, c) => (100 * n) / this.totals[c]);
  }

  /** Accuracy in % by group, null where it has no classes with test images, and of all images. */
  means(correct) {
    const each = this.perClass(correct);
    const found = {};
    for (const [g, members] of Object.entries(this.base.groups)) {
      const values = members.map((c) => each[c]).filter((a) => !Number.isNaN(a));
      found[g] = values.length ? sum(values) / values.length : null;
    }
    found.all = (100 * sum(correct)) / sum(this.totals);
    return found;
  }

  /**
   * Mean and standard deviation over seeds at the tenth next to a position, of the accuracy or its
   * change from p = 0.
   */
  spread(p, group, change = false) {
    const rows = this.curve?.accuracy[group];
    if (!rows || this.curve.seeds.length < 2) return null;
    const here = rows[Math.round(p / 10)];
    const values = change ? here.map((a, s) => a - rows[0][s]) : here;
    const mean = sum(values) / values.length;
    const square = sum(values.map((a) => (a - mean) ** 2));
    return { mean, std: Math.sqrt(square / (values.length - 1)), n: values.length };
  }

  /** The logits (C) of features of one image under a classifier. */
  logits(fit, z) {
    const { C, D } = this;
    const { scale, experts } = this.base;
    const out = new Float64Array(C);
    const size = D / experts;
    for (let c = 0; c < C; c++) {
      if (scale === null) {
        let total = fit.bias[c];
        for (let d = 0; d < D; d++) total += fit.weight[c * D + d] * z[d];
        out[c] = total;
        continue;
      }
      for (let e = 0; e < experts; e++) {
        let product = 0;
        let ww = 0;
        let zz = 0;
        for (let d = e * size; d < (e + 1) * size; d++) {
          const w = fit.weight[c * D + d];
          product += w * z[d];
          ww += w * w;
          zz += z[d] * z[d];
        }
        out[c] += ((scale / experts) * product) / Math.max(Math.sqrt(ww * zz), 1e-12);
      }
    }
    return out;
  }

  feature(k) {
    return this.test.subarray(k * this.D, (k + 1) * this.D);
  }

  /** What a classifier says of a test image: its class, and how sure it is of it. */
  says(fit, k) {
    const c = fit.predicted[k];
    if (fit === this.stage1) return { class: c, sure: this.sure[k] / 255 };
    const logits = this.logits(fit, this.feature(k));
    const top = Math.max(...logits);
    const total = sum(logits.map((a) => Math.exp(a - top)));
    return { class: c, sure: Math.exp(logits[c] - top) / total };
  }

  /**
   * How many test images of class c each class gets, and of which classes those are that are taken
   * for it.
   */
  confusion(fit, c) {
    const row = new Uint32Array(this.C);
    const column = new Uint32Array(this.C);
    for (let k = 0; k < this.T; k++) {
      if (this.labels[k] === c) row[fit.predicted[k]]++;
      if (fit.predicted[k] === c) column[this.labels[k]]++;
    }
    return { row, column };
  }

  /** The class with which c is confused most after stage 1. */
  rival(c) {
    const { row, column } = this.confusion(this.stage1, c);
    const both = Array.from(row, (n, k) => (k === c ? -1 : n + column[k]));
    return both.indexOf(Math.max(...both));
  }

  /**
   * Test images, by place, that a classifier gets right and another does not, rarest classes first.
   */
  changed(before, after) {
    const gained = [];
    const lost = [];
    for (let k = 0; k < this.T; k++) {
      const was = before.predicted[k] === this.labels[k];
      const is = after.predicted[k] === this.labels[k];
      if (is && !was) gained.push(k);
      if (was && !is) lost.push(k);
    }
    const rare = (a, b) => this.counts[this.labels[a]] - this.counts[this.labels[b]] || a - b;
    return { gained: gained.sort(rare), lost: lost.sort(rare) };
  }
}

export function sum(values) {
  let total = 0;
  for (const v of values) total += v;
  return total;
}

/** A name cut to so many letters. */
export function short(name, letters = 16) {
  const all = [...name];
  return all.length <= letters ? name : all.slice(0, letters - 1).join("") + "…";
}

/** A number with so many decimals, or a dash where there is none. */
export const shown = (a, digits = 1) =>
  a === null || a === undefined || Number.isNaN(a) ? "–" : a.toFixed(digits);
