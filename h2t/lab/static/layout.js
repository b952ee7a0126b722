// The page's parts: slider, numbers, settings, figures, tabs, saving. What they are set to is the
// app's state.

import { el } from "./draw.js";
import { Ratio } from "./front.js";
import { GROUPS, short, shown } from "./store.js";

const TABS = {
  changed: "Changed images",
  flow: "Where a class goes",
  map: "Map",
  statistics: "Fusion by BN statistics",
};
const LABELS = {
  fusion: "what is fused",
  fusing_branch: "fusing branch",
  stage2_epochs: "stage-2 epochs",
  stage2_lr: "learning rate",
  seed: "seed",
};

let count = 0;

export class Layout {
  constructor(app) {
    this.app = app;
    this.id = `h2tx-${count++}`;
    const { base } = app.store;
    this.figure = Object.fromEntries(app.figures.map((f) => [f.name, f]));
    this.allowed = {
      tab: Object.keys(TABS),
      figure: ["classes", "curve", "boundary"],
      reference: ["zero", "stage1"],
    };
    this.status = el("p", { className: "status", role: "status", "aria-live": "polite" });
    this.body = el("tbody");
    const three = this.allowed.figure.map((name) => this.figure[name].node);
    app.root.append(
      this.header(base),
      this.status,
      el("div", { className: "three" }, ...three),
      ...this.tabs(),
      this.settings(base),
      this.saving(base),
    );
  }

  // -- the bar that stays in view ---------------------------------------------------------------

  header(base) {
    const { app } = this;
    this.ratio = new Ratio({
      front: app,
      step: base.positions[1] - base.positions[0],
      set: (p, began) => app.set({ p: app.snap(p) }, began),
      say: (words, bad) => this.say(words, bad),
    });
    const button = (words, act, title) =>
      el("button", { type: "button", title, onclick: act }, words);
    this.lecture = button(
      "Lecture",
      () => this.app.set({ lecture: !app.state.lecture }),
      "large letters, one figure",
    );
    this.pin = button("Pin", () => app.setPin(), "keep this state, and show differences to it");
    const reset = button("Reset", () => this.reset(), "back to what the explorer opened with");
    const line = el(
      "div",
      { className: "line" },
      ...this.ratio.nodes,
      this.pin,
      reset,
      this.lecture,
    );
    this.selects = {};
    const classes = app.store.byCount.map((c) => [
      c,
      `${short(base.classes[c], 22)} (${app.store.counts[c]})`,
    ]);
    const head = this.select("head", "head class", classes, (v) =>
      this.choose({ head: Number(v) }),
    );
    const tail = this.select("tail", "tail class", classes, (v) =>
      this.choose({ tail: Number(v) }),
    );
    const pairs = base.pairs.map(([h, t], k) => [
      k,
      `${short(base.classes[t], 14)} taken for ${short(base.classes[h], 14)}`,
    ]);
    const confused = this.select("pair", "", [["", "most confused …"], ...pairs], (v) => {
      if (v === "") return;
      const [h, t] = base.pairs[v];
      app.set({ head: h, tail: t, look: t });
    });
    const against = this.select(
      "reference",
      "compare with",
      [
        ["zero", base.at_zero],
        ["stage1", "stage 1"],
      ],
      (v) => app.set({ reference: v }),
    );
    const second = el("div", { className: "line second" }, head, tail, confused, against);
    this.verdict = el("p", { className: "verdict" });
    this.figures = el(
      "div",
      { className: "choice", role: "group", "aria-label": "figure" },
      ...this.allowed.figure.map((name) =>
        button(
          { classes: "By class", curve: "Ratio curve", boundary: "Boundary" }[name],
          () => app.set({ figure: name }),
          "",
        ),
      ),
    );
    const top = el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", {}, "test accuracy, %"),
        ...GROUPS.map((g) => el("th", { scope: "col" }, g)),
      ),
    );
    const numbers = el("table", { className: "numbers" }, top, this.body);
    this.bar = el("progress", { max: 1, value: 0, "aria-label": "classifiers trained" });
    const left = el(
      "div",
      { className: "controls" },
      line,
      second,
      this.verdict,
      this.figures,
      this.bar,
    );
    return el("header", { className: "bar" }, left, numbers);
  }

  select(name, label, options, act) {
    const node = el(
      "select",
      { onchange: () => act(node.value) },
      ...options.map(([value, words]) => el("option", { value }, words)),
    );
    this.selects[name] = node;
    if (!label) node.setAttribute("aria-label", "a pair of classes that is often confused");
    return el("label", {}, label && `${label} `, node);
  }

  choose(change) {
    const { state } = this.app;
    const next = { ...state, ...change };
    if (next.head === next.tail) {
      this.say("head and tail class must differ; choose another class", true);
      return this.show(state);
    }
    this.say("");
    this.app.set({ ...change, look: change.tail ?? change.head });
  }

  reset() {
    const { app } = this;
    app.pin = null;
    this.say("");
    app.set({ ...app.origin });
    const { settings } = app.store.base;
    if (JSON.stringify(settings) !== app.store.key) app.store.send({ do: "settings", ...settings });
  }

  // -- figures and tabs -------------------------------------------------------------------------

  tabs() {
    const names = Object.keys(TABS);
    this.heads = {};
    this.panels = {};
    for (const name of names) {
      this.heads[name] = el(
        "button",
        {
          type: "button",
          role: "tab",
          id: `${this.id}-${name}`,
          onclick: () => this.app.set({ tab: name }),
        },
        TABS[name],
      );
      this.panels[name] = el(
        "div",
        { role: "tabpanel", className: "panel", "aria-labelledby": `${this.id}-${name}` },
        this.figure[name].node,
      );
    }
    const list = el("div", { role: "tablist", className: "tabs" }, ...Object.values(this.heads));
    list.addEventListener("keydown", (e) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (!step) return;
      const next = names[(names.indexOf(this.app.state.tab) + step + names.length) % names.length];
      this.app.set({ tab: next });
      this.heads[next].focus();
    });
    return [list, ...Object.values(this.panels)];
  }

  // -- settings and saving ----------------------------------------------------------------------

  settings(base) {
    this.fields = {};
    const label = (name) => {
      const choices = base.choices[name];
      const act = { onchange: () => this.ask() };
      this.fields[name] = choices
        ? el("select", act, ...choices.map((c) => el("option", { value: c }, c)))
        : el("input", { type: "text", inputMode: "decimal", size: 8, ...act });
      this.fields[name].disabled = !base.live;
      return el("label", {}, `${LABELS[name]} `, this.fields[name]);
    };
    const note = base.live ? "" : "Saved with these settings; `h2t explore RUN` trains for others.";
    return el(
      "details",
      { className: "settings" },
      el("summary", {}, "Settings of stage 2"),
      el("div", { className: "line" }, ...Object.keys(LABELS).map(label)),
      el("p", { className: "note" }, note),
    );
  }

  ask() {
    const { limits } = this.app.store.base;
    const wanted = {};
    for (const [name, field] of Object.entries(this.fields)) {
      const value = field.value.trim().replace(",", ".");
      wanted[name] = field.tagName === "SELECT" ? value : Number(value);
      if (!(name in limits)) continue;
      const [low, high] = limits[name];
      const whole = name === "stage2_lr" || Number.isInteger(wanted[name]);
      if (value && whole && wanted[name] >= low && wanted[name] <= high) continue;
      const kind = name === "stage2_lr" ? "a number" : "a whole number";
      this.say(
        `${LABELS[name]} is ${kind} from ${low} to ${high}, not ${short(field.value, 20)}`,
        true,
      );
      return this.follow(this.app.store.settings);
    }
    this.say("");
    this.app.store.send({ do: "settings", ...wanted });
  }

  /** Show the settings that the classifiers are trained for. */
  follow(settings) {
    for (const [name, field] of Object.entries(this.fields)) field.value = settings[name];
  }

  saving(base) {
    this.name = el("input", {
      type: "text",
      value: "explored",
      size: 14,
      maxLength: 100,
      "aria-label": "name to save under",
    });
    const button = (what, act) => el("button", { type: "button", onclick: act }, `Save ${what}`);
    const buttons = [button("figures", () => this.saveFigures())];
    if (base.live) buttons.push(button("classifier", () => this.saveClassifier()));
    return el(
      "div",
      { className: "line saving" },
      el("label", {}, "save as ", this.name),
      ...buttons,
    );
  }

  saveClassifier() {
    this.say("saving …");
    const { p } = this.app.state;
    this.app.store.send({ do: "save", name: this.name.value, p: p / 100 });
  }

  async saveFigures() {
    const { app } = this;
    const files = {};
    for (const figure of app.figures) {
      if (!figure.canvas || !figure.canvas.width || !figure.visible) continue;
      const png = await new Promise((done) => this.flat(figure.canvas).toBlob(done, "image/png"));
      files[`${figure.name}.png`] = png;
      files[`${figure.name}.svg`] = new Blob([figure.svg()], { type: "image/svg+xml" });
    }
    for (const [name, blob] of Object.entries(files))
      app.download(`${this.name.value}-${name}`, blob);
    this.say(`${Object.keys(files).length} files saved as downloads`);
  }

  /** A copy of a canvas on the background. */
  flat(canvas) {
    const copy = el("canvas", { width: canvas.width, height: canvas.height });
    const pen = copy.getContext("2d");
    pen.fillStyle = this.app.colours.back;
    pen.fillRect(0, 0, copy.width, copy.height);
    pen.drawImage(canvas, 0, 0);
    return copy;
  }

  // -- showing ----------------------------------------------------------------------------------

  /**
   * One line of words below the bar. What is bad stays until something valid comes, whatever it is
   * about.
   */
  say(words, bad = false) {
    this.status.textContent = words;
    this.status.classList.toggle("bad", bad);
  }

  progress(busy) {
    if (!busy) return;
    const share = (busy.done / busy.of) * 0.8 + (busy.curve ? 0.2 : 0);
    this.bar.value = share;
    this.bar.style.visibility = share < 1 ? "visible" : "hidden";
    this.bar.title = `${busy.done} of ${busy.of} positions of the slider are trained`;
    this.app.root.classList.toggle("training", busy.done === 0);
  }

  show(state) {
    const { app } = this;
    this.ratio.show(state.p);
    for (const name of ["head", "tail"]) this.selects[name].value = state[name];
    const pair = app.store.base.pairs.findIndex(([h, t]) => h === state.head && t === state.tail);
    this.selects.pair.value = pair < 0 ? "" : pair;
    const { reference } = this.selects;
    const pinned = reference.querySelector("[value=pinned]");
    if (app.pin && !pinned) reference.append(el("option", { value: "pinned" }, "pinned"));
    if (!app.pin && pinned) pinned.remove();
    reference.value = app.reference().key;
    for (const name of Object.keys(TABS)) {
      const on = name === state.tab;
      this.heads[name].setAttribute("aria-selected", on);
      this.heads[name].tabIndex = on ? 0 : -1;
      this.panels[name].hidden = !on;
    }
    if (app.root.classList.toggle("lecture", state.lecture) !== this.large) {
      this.large = state.lecture;
      app.theme();
    }
    this.lecture.setAttribute("aria-pressed", state.lecture);
    this.allowed.figure.forEach((name, k) => {
      const on = state.figure === name;
      this.figure[name].node.classList.toggle("only", on);
      this.figures.children[k].setAttribute("aria-pressed", on);
    });
  }

  /** The table and the sentence; cells are kept, so that nothing jumps. */
  numbers(rows, verdict) {
    while (this.body.rows.length > rows.length) this.body.lastChild.remove();
    while (this.body.rows.length < rows.length)
      this.body.append(
        el(
          "tr",
          {},
          el("th", { scope: "row" }, el("i"), el("span")),
          ...GROUPS.map(() => el("td", {}, el("b"), el("small"))),
        ),
      );
    rows.forEach(([name, means, spread, colour, why], k) => {
      const row = this.body.rows[k];
      const [swatch, words] = row.cells[0].children;
      swatch.style.background = colour;
      words.textContent = name;
      row.title = why;
      GROUPS.forEach((g, n) => {
        const [value, band] = row.cells[n + 1].children;
        value.textContent = shown(means[g], 1);
        band.textContent = spread[g] === undefined ? "" : ` ± ${spread[g].toFixed(1)}`;
      });
    });
    if (this.verdict.textContent !== verdict) this.verdict.textContent = verdict;
  }
}
