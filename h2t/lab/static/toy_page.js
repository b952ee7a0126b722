// The toy as a page, with all that it needs in it.

import { inflate, unpack } from "./frame.js";
import { Toy } from "./toy.js";

const [frame] = await inflate(document.getElementById("frames").textContent.trim());
new Toy(document.getElementById("explorer"), unpack(frame));
