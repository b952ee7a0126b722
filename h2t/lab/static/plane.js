// Decision boundaries between two classes, drawn where they are: the plane that two of them span
// (boundary.py).

import { sum } from "./store.js";

const dot = (a, b) => {
  let total = 0;
  for (let d = 0; d < a.length; d++) total += a[d] * b[d];
  return total;
};
const norm = (a) => Math.sqrt(dot(a, a));

/** What decides between two classes: d (D) and b, positive for the tail. */
export function pairOf(store, fit, head, tail) {
  const { D } = store;
  const { scale } = store.base;
  const row = (c) => {
    const w = Float64Array.from(fit.weight.subarray(c * D, (c + 1) * D));
    if (scale === null) return w;
    const seen = seenBy(store, w);
    const length = norm(seen);
    return seen.map((x) => x / length);
  };
  const t = row(tail);
  const h = row(head);
  const b = scale === null ? fit.bias[tail] - fit.bias[head] : 0;
  return { d: t.map((x, k) => x - h[k]), b };
}

/**
 * What decisions are linear in: a feature as it is, or, for several cosine experts, with each one's
 * part at unit length.
 */
export function seenBy(store, z) {
  const { scale, experts } = store.base;
  if (scale === null || experts === 1) return z;
  const size = z.length / experts;
  return Float64Array.from(z, (x, k) => {
    const e = Math.floor(k / size);
    return x / Math.max(norm(z.subarray(e * size, (e + 1) * size)), 1e-12);
  });
}

/**
 * The plane of two boundaries, `third` saying where the second axis goes should both have one
 * direction.
 */
export function planeOf(before, after, third) {
  const e1 = before.d.map((x) => x / norm(before.d));
  const across = (d) => {
    const along = dot(d, e1);
    return d.map((x, k) => x - along * e1[k]);
  };
  let rest = across(after.d);
  if (norm(rest) < 1e-6 * norm(after.d)) rest = across(third.d);
  if (norm(rest) < 1e-9) rest = across(e1.map((_, k) => (k === 0 ? 1 : 0)));
  const e2 = rest.map((x) => x / norm(rest));
  const line = ({ d, b }) => ({ a: [dot(d, e1), dot(d, e2)], b });
  return { e1, e2, before: line(before), after: line(after) };
}

export const place = (plane, z) => [dot(z, plane.e1), dot(z, plane.e2)];
export const side = ({ d, b }, z) => dot(z, d) + b > 0;

/**
 * The features of both classes: training, fused at a position, and test; each a list of vectors as
 * decisions see them.
 */
export function pointsOf(store, head, tail, p) {
  const { D } = store;
  const rows = (flat) => {
    const found = [];
    for (let k = 0; k < (flat?.length ?? 0); k += D)
      found.push(seenBy(store, flat.subarray(k, k + D)));
    return found;
  };
  const test = { [head]: [], [tail]: [] };
  for (let k = 0; k < store.T; k++) test[store.labels[k]]?.push(k);
  const tests = (c) => test[c].map((k) => seenBy(store, store.feature(k)));
  return {
    "train head": { z: rows(store.classes.get(head)?.train) },
    "test head": { z: tests(head), of: test[head] },
    "train tail": { z: rows(store.classes.get(tail)?.train) },
    "test tail": { z: tests(tail), of: test[tail] },
    fused: { z: fusedOf(store, tail, p) },
  };
}

/**
 * Features of the tail after fusion at a position (fusion.py: blend), each with a mask of its own.
 */
export function fusedOf(store, tail, p) {
  const own = store.classes.get(tail);
  if (!own || !own.train.length || !store.fused) return [];
  const { D } = store;
  const { lent, rank } = store.fused;
  const kind = store.settings.fusion;
  const swapped = Math.floor((p / 100) * (D / store.base.experts));
  const count = own.train.length / D;
  const found = [];
  for (let k = 0; k < lent.length / D; k++) {
    const z = Float64Array.from(own.train.subarray((k % count) * D, ((k % count) + 1) * D));
    const far = Math.sqrt(sum(z.map((x, d) => (x - own.centre[d]) ** 2)));
    const share = kind === "soft" ? 0.2 + 0.8 / (1 + far) : 0;
    for (let d = 0; d < D; d++) {
      const other = lent[k * D + d];
      if (kind === "mixup") z[d] += (p / 100) * (other - z[d]);
      else if (rank[k * D + d] < swapped) z[d] = other + share * (z[d] - other);
    }
    found.push(seenBy(store, z));
  }
  return found;
}
