// The three figures that tell the story: accuracy by class, the ratio curve, the boundary between
// two classes.

import { Figure, area, axes, line, logTicks, mark, scale, text, ticks, within } from "./draw.js";
import { pairOf, place, planeOf, pointsOf, side } from "./plane.js";
import { GROUPS, short, shown } from "./store.js";

/** Accuracy by class against the number of its training images. */
export class ByClass extends Figure {
  draw(pen, width, height) {
    const { store, state, colours, size } = this.app;
    const box = {
      left: 3.6 * size,
      right: width - 8,
      top: 2.2 * size,
      bottom: height - 3.2 * size,
    };
    const low = Math.max(1, Math.min(...store.counts));
    const high = Math.max(...store.counts);
    const x = scale([low / 1.25, high * 1.25], [box.left, box.right], true);
    const y = scale([-7, 103], [box.bottom, box.top]);
    let marks = logTicks(low / 1.2, high * 1.2);
    if (marks.length > 7) marks = marks.filter((t) => /^[15]/.test(String(t)));
    axes(
      pen,
      box,
      { scale: x, ticks: marks, label: "training images of the class" },
      { scale: y, ticks: ticks(0, 100, 5), label: "test accuracy, %" },
      colours,
      size,
    );
    this.bands(pen, box, x);
    const kinds = this.app.kinds();
    let along = box.left;
    for (const { name, colour, shape } of kinds) {
      pen.lineWidth = 1.8;
      mark(pen, shape, along + 6, 0.9 * size, 4.2, colour);
      text(pen, name, along + 14, 0.9 * size, { colour: colours.text, size: 0.92 * size });
      along += 14 + pen.measureText(name).width + 1.2 * size;
    }
    const each = kinds.map((k) => store.perClass(k.fit.correct));
    const r = Math.max(2.4, Math.min(4.2, 0.012 * width));
    const labels = [];
    for (let c = 0; c < store.C; c++) {
      const at = x(Math.max(1, store.counts[c]));
      const values = each.map((e) => e[c]);
      if (Number.isNaN(values[0])) continue;
      const chosen = c === state.head || c === state.tail;
      const [was, is] = values.slice(-2);
      line(
        pen,
        [
          [at, y(was)],
          [at, y(is)],
        ],
        { colour: colours.now, width: 1, alpha: 0.6 },
      );
      kinds.forEach(({ shape, colour }, k) => {
        pen.lineWidth = 1.6;
        mark(pen, shape, at, y(values[k]), chosen ? 1.5 * r : r, colour);
      });
      if (chosen) labels.push([c, at, y(is)]);
      values.forEach((v) =>
        this.hits.push({
          x: at,
          y: y(v),
          r: 2,
          about: () => this.app.aboutClass(c),
          act: () => this.app.look(c),
        }),
      );
    }
    for (const [c, at, top] of labels) {
      const right = at > (box.left + box.right) / 2;
      text(pen, short(store.base.classes[c], 14), at + (right ? -9 : 9), top, {
        colour: colours.text,
        halo: colours.back,
        size: 0.95 * size,
        bold: true,
        align: right ? "right" : "left",
      });
    }
  }

  /** The groups: where they lie, and a line at the mean of each. */
  bands(pen, box, x) {
    const { store, colours, size } = this.app;
    const means = store.means(this.app.now().correct);
    const y = scale([-7, 103], [box.bottom, box.top]);
    for (const [g, members] of Object.entries(store.base.groups)) {
      if (!members.length) continue;
      const counts = members.map((c) => Math.max(1, store.counts[c]));
      const [from, to] = [x(Math.min(...counts) / 1.06), x(Math.max(...counts) * 1.06)];
      const corners = [
        [from, box.top],
        [to, box.top],
        [to, box.bottom],
        [from, box.bottom],
      ];
      area(pen, corners, colours[g], 0.08);
      text(pen, g, (from + to) / 2, box.bottom - 0.8 * size, {
        halo: colours.back,
        colour: colours[`${g}Text`],
        size: 0.92 * size,
        bold: true,
        align: "center",
      });
      if (means[g] !== null)
        line(
          pen,
          [
            [from, y(means[g])],
            [to, y(means[g])],
          ],
          { colour: colours[g], width: 3 },
        );
    }
  }
}

/**
 * Accuracy by group against the fusion ratio: every position that is trained, the band over seeds,
 * published points.
 */
export class Curve extends Figure {
  draw(pen, width, height) {
    const { store, state, colours, size } = this.app;
    const box = {
      left: 3.6 * size,
      right: width - 5.6 * size,
      top: 8,
      bottom: height - 3.2 * size,
    };
    const ready = [...store.fits.keys()].sort((a, b) => a - b);
    const lines = ready.map((p) => store.means(store.fits.get(p).correct));
    const published = store.base.published;
    const values = lines.flatMap((m) => GROUPS.map((g) => m[g]));
    if (published) values.push(...Object.values(published).flat());
    const known = values.filter((v) => v !== null);
    const low = Math.max(0, 10 * Math.floor((Math.min(...known) - 3) / 10));
    const high = Math.min(100, 10 * Math.ceil((Math.max(...known) + 3) / 10));
    const x = scale([0, 100], [box.left, box.right]);
    const y = scale([low, high], [box.bottom, box.top]);
    const format = (p) => String(p / 100);
    axes(
      pen,
      box,
      { scale: x, ticks: [0, 20, 40, 60, 80, 100], label: "fusion ratio p", format },
      { scale: y, ticks: ticks(low, high, 6), label: "test accuracy, %" },
      colours,
      size,
    );
    this.ends = [];
    for (const g of GROUPS) this.group(pen, g, { box, x, y, ready, lines });
    this.label(pen, box);
    line(
      pen,
      [
        [x(state.p), box.top],
        [x(state.p), box.bottom],
      ],
      {
        colour: colours.now,
        width: 2,
        dash: [5, 4],
      },
    );
    const now = store.means(this.app.now().correct);
    for (const g of GROUPS)
      if (now[g] !== null) mark(pen, "circle", x(state.p), y(now[g]), 0.38 * size, colours[g]);
    this.x = x;
    const seeds = store.curve?.seeds.length ?? 0;
    const band =
      seeds > 1 ? ` (band: ± 1 std, ${seeds} seeds${published ? "; ○ published" : ""})` : "";
    this.title.textContent = `Ratio curve${band}`;
    this.hits.push({
      inside: (px, py) => px >= box.left - 6 && px <= box.right + 6 && py <= box.bottom,
      about: () => this.said(this.over),
      act: () => this.app.set({ p: this.app.snap(this.over) }),
    });
  }

  hover(event) {
    if (this.x) this.over = Math.max(0, Math.min(100, Math.round(this.x.back(this.at(event)[0]))));
    super.hover(event);
  }

  said(p) {
    const { store } = this.app;
    const fit = store.near(p);
    const means = store.means(fit.correct);
    const lines = GROUPS.map((g) => {
      const spread = store.spread(fit.p, g);
      return `${g} ${shown(means[g])}${spread ? ` ± ${spread.std.toFixed(1)}` : ""}`;
    });
    return { title: `p = ${(fit.p / 100).toFixed(2)}`, lines };
  }

  group(pen, g, { box, x, y, ready, lines }) {
    const { store, colours, size } = this.app;
    const points = ready
      .map((p, k) => [p, lines[k][g]])
      .filter(([, a]) => a !== null)
      .map(([p, a]) => [x(p), y(a)]);
    if (!points.length) return;
    const rows = store.curve?.accuracy[g];
    if (rows && store.curve.seeds.length > 1) {
      const spread = store.curve.ratios.map((r) => [x(100 * r), store.spread(100 * r, g)]);
      const up = spread.map(([at, s]) => [at, y(s.mean + s.std)]);
      const down = spread.map(([at, s]) => [at, y(s.mean - s.std)]).reverse();
      within(pen, box); // the axis is of the means
      area(pen, [...up, ...down], colours[g], 0.25);
      pen.restore();
    }
    line(pen, points, { colour: colours[g], width: (g === "all" ? 2.6 : 1.8) * (size / 12) });
    const circles = store.base.published?.[g] ?? [];
    circles.forEach((a, k) => {
      pen.lineWidth = 1.4;
      mark(pen, "ring", x(10 * k), y(a), 0.27 * size, colours[g]);
    });
    this.ends.push([g, points[points.length - 1][1]]);
  }

  /** Names at the right ends of the lines, kept apart. */
  label(pen, box) {
    const { colours, size } = this.app;
    this.ends.sort((a, b) => a[1] - b[1]);
    let last = -Infinity;
    for (const [g, at] of this.ends) {
      last = Math.max(at, last + 1.15 * size);
      text(pen, g, box.right + 8, last, { colour: colours[`${g}Text`], size, bold: true });
    }
  }
}

export const SETS = {
  "train head": ["circle", "many", 2.2, 0.35],
  "test head": ["square", "many", 3, 0.75],
  "train tail": ["circle", "few", 3.6, 0.9],
  "test tail": ["square", "few", 3, 0.75],
  fused: ["cross", "fused", 3.4, 0.9],
};

/**
 * The boundary between the two classes: that of the reference and the current one, in the plane
 * that they span.
 */
export class Boundary extends Figure {
  draw(pen, width, height) {
    const { store, state, colours, size } = this.app;
    const { head, tail } = state;
    const reference = this.app.reference();
    const now = this.app.now();
    const pair = (fit) => pairOf(store, fit, head, tail);
    const [first, before, after] = [store.stage1, reference.fit, now].map(pair);
    const far = pair(store.near(100));
    const plane = planeOf(before, after, differ(far, before) ? far : first);
    const points = pointsOf(store, head, tail, state.p);
    const top = 4.6 * size;
    const box = { left: 2 * size, right: width - 8, top, bottom: height - 2.2 * size };
    const places = {};
    for (const [name, set] of Object.entries(points))
      places[name] = set.z.map((z) => place(plane, z));
    const { x, y } = this.limits(places, box);
    this.lines(pen, box, x, y, plane, reference);
    within(pen, box);
    for (const [name, [shape, colour, r, alpha]] of Object.entries(SETS)) {
      pen.globalAlpha = alpha;
      places[name].forEach(([px, py], k) => {
        pen.lineWidth = 1.5;
        mark(pen, shape, x(px), y(py), r, colours[colour]);
        const image = points[name].of?.[k];
        if (image === undefined) return;
        const at = { x: x(px), y: y(py), r: r };
        if (image === state.image) {
          pen.globalAlpha = 1;
          mark(pen, "ring", at.x, at.y, 9, colours.text);
          pen.globalAlpha = alpha;
        }
        const about = () => this.app.aboutImage(image);
        this.hits.push({ ...at, about, act: () => this.app.set({ image }) });
      });
    }
    pen.restore();
    this.legend(pen, width, points, [first, before, after], reference);
  }

  /**
   * The span of everything, which only grows while the pair and the settings stay, so that nothing
   * jumps.
   */
  limits(places, box) {
    const { store, state } = this.app;
    const all = Object.values(places).flat();
    const spans = [0, 1].map((k) => {
      const values = all.map((p) => p[k]);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return [low - 0.06 * (high - low), high + 0.06 * (high - low)];
    });
    const key = [state.head, state.tail, state.reference, store.key, store.classes.size].join();
    if (key !== this.held) [this.held, this.spans] = [key, spans];
    this.spans = this.spans.map(([a, b], k) => [
      Math.min(a, spans[k][0]),
      Math.max(b, spans[k][1]),
    ]);
    return {
      x: scale(this.spans[0], [box.left, box.right]),
      y: scale(this.spans[1], [box.bottom, box.top]),
    };
  }

  lines(pen, box, x, y, plane, reference) {
    const { colours, size } = this.app;
    within(pen, box);
    const reach = 4 * Math.hypot(...this.spans.map(([a, b]) => b - a));
    const middle = this.spans.map(([a, b]) => (a + b) / 2);
    const ends = ({ a, b }) => {
      const square = a[0] ** 2 + a[1] ** 2;
      const off = (a[0] * middle[0] + a[1] * middle[1] + b) / square;
      const foot = [middle[0] - off * a[0], middle[1] - off * a[1]];
      const unit = [a[0] / Math.sqrt(square), a[1] / Math.sqrt(square)];
      const along = [-unit[1] * reach, unit[0] * reach];
      return [
        [foot[0] - along[0], foot[1] - along[1]],
        [foot[0] + along[0], foot[1] + along[1]],
        unit,
      ];
    };
    const screen = ([px, py]) => [x(px), y(py)];
    const [a, b, unit] = ends(plane.after);
    const beyond = [b, a].map(([px, py]) => [px + unit[0] * reach, py + unit[1] * reach]);
    area(pen, [a, b, ...beyond].map(screen), colours.few, 0.1);
    const old = ends(plane.before).slice(0, 2).map(screen);
    line(pen, old, { colour: reference.colour, width: 2.2, dash: [7, 5] });
    line(pen, [a, b].map(screen), { colour: colours.now, width: 3 });
    pen.restore();
    const words = "across it, in the plane of both boundaries";
    pen.save();
    pen.translate(0.8 * size, (box.top + box.bottom) / 2);
    pen.rotate(-Math.PI / 2);
    text(pen, words, 0, 0, { colour: colours.soft, size: 0.92 * size, align: "center" });
    pen.restore();
    text(
      pen,
      `from head to tail, by ${reference.name}`,
      (box.left + box.right) / 2,
      box.bottom + size,
      {
        colour: colours.soft,
        size: 0.92 * size,
        align: "center",
      },
    );
  }

  /** Which share of each set is called tail: after stage 1, by the reference, now. */
  legend(pen, width, points, pairs, reference) {
    const { store, state, colours, size } = this.app;
    const step = 1.25 * size;
    const names = reference.key === "stage1" ? pairs.slice(1) : pairs;
    this.shares = {}; // also for who wants to read them
    Object.entries(SETS).forEach(([name, [shape, colour]], k) => {
      const at = [(k % 2) * (width / 2) + 8, 0.8 * size + Math.floor(k / 2) * step];
      mark(pen, shape, at[0], at[1], 3.6, colours[colour]);
      const { z } = points[name];
      const shares = names.map((pair) => {
        const count = z.filter((one) => side(pair, one)).length;
        return z.length ? Math.round((100 * count) / z.length) : "–";
      });
      this.shares[name] = shares;
      text(pen, `${name} (${z.length}): ${shares.join(" → ")} %`, at[0] + 9, at[1], {
        colour: colours.text,
        size: 0.92 * size,
      });
    });
    const at = [width - 2, 0.8 * size + 2 * step]; // to the right, whose end may be long
    const how = { colour: colours.soft, size: 0.92 * size, align: "right" };
    text(
      pen,
      `called tail: ${reference.key === "stage1" ? "" : "stage 1 → "}${reference.name} → now`,
      ...at,
      how,
    );
    const [head, tail] = [state.head, state.tail].map((c) => short(store.base.classes[c], 18));
    this.title.textContent = `Boundary: ${head} (head) and ${tail} (tail)`;
  }
}

function differ(a, b) {
  return a.d.some((x, k) => Math.abs(x - b.d[k]) > 1e-9);
}
