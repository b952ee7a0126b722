// A small plotting kit: a figure on a canvas that answers the pointer, its scales and axes, and a
// pen that writes SVG.

/**
 * Make an element: properties, `on…` listeners, attributes with `-` or role, and children (text is
 * text, never markup).
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.includes("-")) node[name] = value;
    else node.setAttribute(name, value);
  }
  // JupyterLab takes arrow keys for its own unless the element that has the focus itself says this
  if (/^(input|select|button)$/.test(tag)) node.dataset.lmSuppressShortcuts = "true";
  if (tag === "input" && props.type === "text")
    node.addEventListener("keydown", (e) => {
      e.stopPropagation(); // a notebook has plans of its own for keys
      if (e.key !== "Enter") return;
      node.blur(); // which brings the change
      node.focus();
    });
  node.append(...children);
  return node;
}

/** A change, with its sign. */
export const signed = (a) => `${a < 0 ? "−" : "+"}${Math.abs(a).toFixed(1)}`;

/** A table of texts; the first cell of a row names it. */
export function table(head, rows) {
  const line = (tag, texts) =>
    el("tr", {}, ...texts.map((words, k) => el(k ? tag : "th", {}, words)));
  const body = rows.map((texts) => line("td", texts));
  return el("table", {}, el("thead", {}, line("th", head)), el("tbody", {}, ...body));
}

/** A linear, or with `log` logarithmic, map from a span of values to one of pixels. */
export function scale([low, high], [from, to], log = false) {
  const f = log ? Math.log10 : (v) => v;
  const factor = (to - from) / (f(high) - f(low) || 1);
  const map = (v) => from + (f(v) - f(low)) * factor;
  map.back = (x) => {
    const v = f(low) + (x - from) / factor;
    return log ? 10 ** v : v;
  };
  return map;
}

const STEPS = [1, 2, 5];

/** Round numbers in a span, about so many. */
export function ticks(low, high, about = 6) {
  const rough = (high - low) / about || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([...STEPS, 10].find((s) => s * power >= rough) ?? 10);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++)
    found.push(Number((k * step).toPrecision(8)));
  return found;
}

/** 1, 2, 5, 10, … in a span. */
export function logTicks(low, high) {
  const found = [];
  for (let power = 1; power <= high; power *= 10)
    for (const s of STEPS) if (s * power >= low && s * power <= high) found.push(s * power);
  return found;
}

/** Mark a point: circle, ring, square, diamond, cross, triangle. */
export function mark(pen, kind, x, y, r, colour) {
  pen.beginPath();
  if (kind === "circle" || kind === "ring") pen.arc(x, y, r, 0, 2 * Math.PI);
  else if (kind === "square") pen.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r);
  else if (kind === "cross") {
    for (const s of [1, -1]) {
      pen.moveTo(x - r, y - s * r);
      pen.lineTo(x + r, y + s * r);
    }
  } else {
    const corners =
      kind === "diamond"
        ? [
            [0, -1.2],
            [1.2, 0],
            [0, 1.2],
            [-1.2, 0],
          ]
        : [
            [0, -1.1],
            [1.1, 0.9],
            [-1.1, 0.9],
          ];
    corners.forEach(([dx, dy], k) => pen[k ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
    pen.closePath();
  }
  const open = kind === "ring" || kind === "cross" || kind === "diamond";
  pen[open ? "strokeStyle" : "fillStyle"] = colour;
  if (open) pen.stroke();
  else pen.fill();
}

export function line(pen, points, { colour, width = 1.5, dash = [], alpha = 1 }) {
  pen.save();
  pen.globalAlpha = alpha;
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.beginPath();
  points.forEach(([x, y], k) => pen[k ? "lineTo" : "moveTo"](x, y));
  pen.stroke();
  pen.restore();
}

/** Draw nothing outside a box, until `restore`. */
export function within(pen, box) {
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  pen.clip();
}

export function area(pen, points, colour, alpha) {
  pen.save();
  pen.globalAlpha = alpha;
  pen.fillStyle = colour;
  pen.beginPath();
  points.forEach(([x, y], k) => pen[k ? "lineTo" : "moveTo"](x, y));
  pen.closePath();
  pen.fill();
  pen.restore();
}

export function text(pen, words, x, y, { colour, size = 12, bold = false, align = "left", halo }) {
  pen.fillStyle = colour;
  pen.font = `${bold ? "600 " : ""}${size}px system-ui, sans-serif`;
  pen.textAlign = align;
  pen.textBaseline = "middle";
  if (halo) {
    Object.assign(pen, { strokeStyle: halo, lineWidth: 4, lineJoin: "round" });
    pen.strokeText(words, x, y);
  }
  pen.fillText(words, x, y);
}

/**
 * Axes with grid lines: `x` and `y` are {scale, ticks, label, format}; `box` is {left, right, top,
 * bottom}.
 */
export function axes(pen, box, x, y, colours, size) {
  for (const t of x.ticks) {
    const at = x.scale(t);
    line(
      pen,
      [
        [at, box.top],
        [at, box.bottom],
      ],
      { colour: colours.grid, width: 1 },
    );
    text(pen, (x.format ?? String)(t), at, box.bottom + 0.9 * size, {
      colour: colours.soft,
      size: 0.9 * size,
      align: "center",
    });
  }
  for (const t of y.ticks) {
    const at = y.scale(t);
    line(
      pen,
      [
        [box.left, at],
        [box.right, at],
      ],
      { colour: colours.grid, width: 1 },
    );
    text(pen, (y.format ?? String)(t), box.left - 5, at, {
      colour: colours.soft,
      size: 0.9 * size,
      align: "right",
    });
  }
  const middle = (box.left + box.right) / 2;
  text(pen, x.label, middle, box.bottom + 2.3 * size, {
    colour: colours.soft,
    size,
    align: "center",
  });
  pen.save();
  pen.translate(0.7 * size, (box.top + box.bottom) / 2);
  pen.rotate(-Math.PI / 2);
  text(pen, y.label, 0, 0, { colour: colours.soft, size, align: "center" });
  pen.restore();
}

/**
 * A figure that is drawn on a canvas: subclasses draw, and list as `hits` what answers the pointer.
 */
export class Figure {
  constructor(app, name, title) {
    this.app = app;
    this.name = name;
    this.hits = []; // {x, y, r, about(), act()}
    this.title = el("figcaption", {}, title);
    this.canvas = el("canvas", { role: "img", "aria-label": title });
    this.node = el("figure", { className: `figure ${name}` }, this.title, this.canvas);
    this.canvas.addEventListener("pointermove", (e) => this.hover(e));
    this.canvas.addEventListener("pointerleave", () => app.tip.hide());
    this.canvas.addEventListener("click", (e) => this.click(e));
    this.watch = new ResizeObserver(() => app.redraw());
    this.watch.observe(this.canvas);
  }

  get visible() {
    return this.node.isConnected && this.node.offsetParent !== null;
  }

  paint() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.hits = [];
    this.draw(pen, width, height);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  nearest([x, y]) {
    let best = null;
    let closest = Infinity;
    for (const hit of this.hits) {
      const far = hit.inside
        ? hit.inside(x, y)
          ? 0
          : Infinity
        : Math.hypot(hit.x - x, hit.y - y) - (hit.r ?? 0);
      if (far < closest && far < 10) [best, closest] = [hit, far];
    }
    return best;
  }

  hover(event) {
    const hit = this.nearest(this.at(event));
    this.canvas.style.cursor = hit?.act ? "pointer" : "default";
    if (hit) this.app.tip.show(event, hit.about());
    else this.app.tip.hide();
  }

  click(event) {
    this.nearest(this.at(event))?.act?.();
  }

  /** The figure as SVG text, at the size on the screen. */
  svg() {
    const [width, height] = [this.canvas.clientWidth || 640, this.canvas.clientHeight || 420];
    const pen = new SvgPen(this.app.colours.back);
    this.draw(pen, width, height);
    return pen.text(width, height, this.title.textContent);
  }
}

const clean = (s) =>
  String(s).replace(
    /[&<>"]/g,
    (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c],
  );

/** What the figures use of a canvas' context, written down as SVG. */
export class SvgPen {
  constructor(back) {
    Object.assign(this, { back, parts: [], path: "", dash: [], moved: "", stack: [], clips: 0 });
    Object.assign(this, { globalAlpha: 1, lineWidth: 1, fillStyle: "#000", strokeStyle: "#000" });
    Object.assign(this, { font: "12px sans-serif", textAlign: "left", clipped: "" });
  }
  save() {
    const keep = ["globalAlpha", "lineWidth", "fillStyle", "strokeStyle", "font", "textAlign"];
    this.stack.push(
      Object.fromEntries([...keep, "dash", "moved", "clipped"].map((k) => [k, this[k]])),
    );
  }
  restore() {
    Object.assign(this, this.stack.pop());
  }
  translate(x, y) {
    this.moved += ` translate(${x} ${y})`;
  }
  rotate(angle) {
    this.moved += ` rotate(${(180 * angle) / Math.PI})`;
  }
  setLineDash(dash) {
    this.dash = dash;
  }
  beginPath() {
    this.path = "";
  }
  moveTo(x, y) {
    this.path += `M${x.toFixed(2)} ${y.toFixed(2)}`;
  }
  lineTo(x, y) {
    this.path += `L${x.toFixed(2)} ${y.toFixed(2)}`;
  }
  closePath() {
    this.path += "Z";
  }
  arc(x, y, r) {
    this.moveTo(x - r, y);
    this.path += `a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
  }
  rect(x, y, w, h) {
    this.path += `M${x} ${y}h${w}v${h}h${-w}Z`;
  }
  clip() {
    this.clips++;
    this.parts.push(`<clipPath id="c${this.clips}"><path d="${this.path}"/></clipPath>`);
    this.clipped = ` clip-path="url(#c${this.clips})"`;
  }
  put(shape) {
    const moved = this.moved ? ` transform="${this.moved.trim()}"` : "";
    this.parts.push(`<g opacity="${this.globalAlpha}"${this.clipped}><g${moved}>${shape}</g></g>`);
  }
  fill() {
    this.put(`<path d="${this.path}" fill="${this.fillStyle}"/>`);
  }
  stroke() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash}"` : "";
    const how = `fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"`;
    this.put(`<path d="${this.path}" ${how}${dash}/>`);
  }
  fillRect(x, y, w, h) {
    this.put(`<path d="M${x} ${y}h${w}v${h}h${-w}Z" fill="${this.fillStyle}"/>`);
  }
  strokeText(words, x, y) {
    this.letters(
      words,
      x,
      y,
      `fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"`,
    );
  }
  fillText(words, x, y) {
    this.letters(words, x, y, `fill="${this.fillStyle}"`);
  }
  letters(words, x, y, ink) {
    const size = parseFloat(this.font.match(/([\d.]+)px/)[1]);
    const anchor = { left: "start", center: "middle", right: "end" }[this.textAlign];
    const how = `font-family="system-ui, sans-serif" font-size="${size}" text-anchor="${anchor}"`;
    const bold = this.font.startsWith("600") ? ' font-weight="600"' : "";
    const at = `x="${x}" y="${y + 0.35 * size}" ${ink}`;
    this.put(`<text ${at} ${how}${bold}>${clean(words)}</text>`);
  }
  measureText(words) {
    return { width: 0.55 * parseFloat(this.font.match(/([\d.]+)px/)[1]) * [...words].length };
  }
  text(width, height, title) {
    const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
    const back = `<rect width="${width}" height="${height}" fill="${this.back}"/>`;
    const inside = `<title>${clean(title)}</title>${back}${this.parts.join("\n")}`;
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>${inside}</svg>\n`;
  }
}
