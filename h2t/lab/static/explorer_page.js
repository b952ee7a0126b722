// The explorer as a page: with a server behind it, or, saved, with all frames in the page.

import { App } from "./app.js";
import { inflate, split } from "./frame.js";
import { Store } from "./store.js";

const root = document.getElementById("explorer");
const store = new Store();
const app = new App(root, store, { address: true });

/** The frames of a server, as they come, until it ends. */
async function follow() {
  const headers = { "X-Token": new URLSearchParams(location.search).get("token") ?? "" };
  store.send = (message) =>
    fetch("ask", { method: "POST", headers, body: JSON.stringify(message) }).catch(() => lost());
  const lost = () =>
    app.layout?.say("the explorer's server has ended; start it again with h2t explore", true);
  for (let since = 0; ;) {
    let answer;
    try {
      answer = await fetch(`frames?since=${since}`, { headers });
      if (!answer.ok) throw new Error(answer.statusText);
    } catch {
      return lost();
    }
    since = Number(answer.headers.get("X-Last"));
    for (const frame of split(await answer.arrayBuffer())) await store.take(frame);
  }
}

const data = document.getElementById("frames")?.textContent.trim();
if (data) for (const frame of await inflate(data)) await store.take(frame);
else follow();
