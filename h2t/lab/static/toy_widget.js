// The toy in a notebook, by anywidget: all is in the widget's state, and nothing asks the kernel.

import { unpack } from "./frame.js";
import { Toy } from "./toy.js";

/** One view of the widget: fill `el`, and return what takes it away again. */
function render({ model, el: root }) {
  const { buffer, byteOffset, byteLength } = model.get("frame");
  const inside = document.createElement("div");
  inside.classList.add("boxed");
  root.append(inside);
  const toy = new Toy(inside, unpack(buffer.slice(byteOffset, byteOffset + byteLength)));
  return () => toy.close();
}

export default { render };
