// The explorer in a notebook, by anywidget: frames come as buffers of messages, requests go as
// messages.

import { App } from "./app.js";
import { Store } from "./store.js";

/** One view of the widget: fill `el`, and return what takes it away again. */
function render({ model, el: root }) {
  const store = new Store();
  const inside = document.createElement("div");
  inside.classList.add("boxed");
  root.append(inside);
  const app = new App(inside, store);
  let last = Promise.resolve();
  const take = (message, buffers) => {
    for (const view of buffers) {
      const { buffer, byteOffset, byteLength } = view;
      const frame = buffer.slice(byteOffset, byteOffset + byteLength);
      last = last.then(() => store.take(frame));
    }
  };
  store.send = (message) => model.send(message);
  const ended = () => app.layout?.say("the kernel has ended; run the cell again", true);
  model.on("msg:custom", take);
  model.on("comm_live_update", ended);
  model.send({ do: "hello" });
  return () => {
    model.off("msg:custom", take);
    model.off("comm_live_update", ended);
    app.close();
  };
}

export default { render };
