// What both front ends have in common: colours that follow the theme, the loop that draws, the
// slider of the fusion ratio, and what is shown beside the pointer.

import { el } from "./draw.js";

export class Front {
  /** `root` to fill; `colours` the names of those of the style sheet that the figures use. */
  constructor(root, colours) {
    Object.assign(this, { root, names: colours, dragging: false, figures: [] });
    root.classList.add("h2tx");
    root.h2t = this;
    this.tip = new Tip(this);
    this.sizes = new ResizeObserver(() => this.fit());
    this.sizes.observe(root);
    this.fit();
    this.themes = new MutationObserver(() => this.theme());
    for (const node of [document.documentElement, document.body])
      this.themes.observe(node, { attributes: true });
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.rethemed = () => this.theme();
    this.scheme.addEventListener("change", this.rethemed);
  }

  /** How wide the root is, not the window: in notebooks there is much beside it. */
  fit() {
    this.root.classList.toggle("narrow", this.root.clientWidth <= 1000);
    this.root.classList.toggle("small", this.root.clientWidth <= 640);
  }

  close() {
    this.sizes.disconnect();
    this.themes.disconnect();
    this.scheme.removeEventListener("change", this.rethemed);
    for (const figure of this.figures) figure.watch?.disconnect();
    cancelAnimationFrame(this.frame);
    this.root.replaceChildren();
  }

  theme() {
    const { jpThemeLight, vscodeThemeKind = "" } = document.body.dataset;
    let dark = this.scheme.matches;
    if (jpThemeLight !== undefined) dark = jpThemeLight === "false";
    else if (vscodeThemeKind) dark = !vscodeThemeKind.includes("light");
    else if (document.documentElement.hasAttribute("theme"))
      dark = document.documentElement.getAttribute("theme") === "dark";
    this.root.classList.toggle("dark", dark);
    const style = getComputedStyle(this.root);
    const camel = (name) => name.replace("-text", "Text");
    this.colours = Object.fromEntries(
      this.names.map((name) => [camel(name), style.getPropertyValue(`--${name}`).trim()]),
    );
    this.size = parseFloat(style.getPropertyValue("--letters"));
    this.redraw();
  }

  /** Draw with the next frame; `began` is when the pointer or key moved. */
  redraw(began = null) {
    this.began ??= began;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (!this.ready()) return;
      this.write();
      for (const figure of this.figures) if (figure.visible) figure.paint();
      const since = this.began;
      this.began = null;
      if (since === null) return;
      const detail = { began: since, drawn: performance.now() };
      this.root.dispatchEvent(new CustomEvent("h2t-drawn", { detail }));
    });
  }
}

/**
 * The slider of the fusion ratio and the number beside it; both call `set` with a position and when
 * it was moved.
 */
export class Ratio {
  constructor({ front, step = 1, set, say }) {
    Object.assign(this, { front, set, say });
    this.slider = el("input", {
      type: "range",
      min: 0,
      max: 100,
      step,
      "aria-label": "fusion ratio p",
      oninput: (e) => set(this.slider.valueAsNumber, e.timeStamp || performance.now()),
      onpointerdown: () => this.drag(true),
      onpointerup: () => this.drag(false),
      onpointercancel: () => this.drag(false),
      onchange: () => this.drag(false),
    });
    this.number = el("input", {
      type: "text",
      inputMode: "decimal",
      className: "ratio",
      "aria-label": "fusion ratio p, as a number",
      onchange: () => this.typed(),
    });
    this.nodes = [el("b", {}, "fusion ratio p"), this.slider, this.number];
  }

  drag(on) {
    this.front.dragging = on;
    this.front.redraw();
  }

  typed() {
    const words = this.number.value.trim();
    const value = Number(words.replace(",", "."));
    if (words && value >= 0 && value <= 1) {
      this.say("");
      return this.set(Math.round(100 * value), performance.now());
    }
    const cut = words.length > 20 ? `${words.slice(0, 20)}…` : words;
    this.say(`the fusion ratio is a number from 0 to 1, not ${cut}`, true);
    this.show(this.slider.valueAsNumber);
  }

  show(p) {
    this.slider.value = p;
    this.number.value = (p / 100).toFixed(2);
    this.slider.setAttribute("aria-valuetext", this.number.value);
  }
}

/** What is shown beside the pointer: a title, lines, and an image. All of it is text. */
class Tip {
  constructor(front) {
    this.front = front;
    this.canvas = el("canvas", { width: 64, height: 64 });
    this.words = el("div");
    const props = { className: "tip", hidden: true, role: "tooltip" };
    this.node = el("div", props, this.canvas, this.words);
    front.root.append(this.node);
  }

  show(event, { title, lines, image }) {
    this.canvas.hidden = image === undefined;
    if (image !== undefined) this.front.picture(this.canvas, image);
    this.words.replaceChildren(el("strong", {}, title), ...lines.map((s) => el("div", {}, s)));
    this.node.hidden = false;
    const { offsetWidth: w, offsetHeight: h } = this.node;
    const { clientX: x, clientY: y } = event;
    const left = x + 14 + w > window.innerWidth ? x - w - 10 : x + 14;
    const top = Math.min(y + 14, window.innerHeight - h - 4);
    this.node.style.left = `${Math.max(2, left)}px`;
    this.node.style.top = `${Math.max(2, top)}px`;
  }

  hide() {
    this.node.hidden = true;
  }
}
