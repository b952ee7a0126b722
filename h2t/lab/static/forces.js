// The toy of notebook 00 (toy/classes.py): linear classifiers in the plane, and the forces on one.
// Points are flat arrays, x and y in turn; a classifier is [w1, w2, b] and says tail above 0.

const score = (t, xy, k) => t[0] * xy[2 * k] + t[1] * xy[2 * k + 1] + t[2];
const sigmoid = (s) => 1 / (1 + Math.exp(-s));
const softplus = (s) => Math.max(s, 0) + Math.log1p(Math.exp(-Math.abs(s)));

/** The draws of stage 2 at a ratio p in [0, 1]: class-balanced points, grafted batch by batch. */
export function drawn({ points, own, partner, first }, p) {
  const each = own.length / first.length;
  const xy = new Float64Array(2 * own.length);
  for (let k = 0; k < own.length; k++) {
    const batch = Math.floor(k / each);
    const swapped = Math.min(Math.floor(2 * p + (batch + 0.5) / first.length), 2);
    for (let d = 0; d < 2; d++) {
      const grafted = swapped === 2 || (swapped === 1 && first[batch] === d);
      xy[2 * k + d] = points[2 * (grafted ? partner[k] : own[k]) + d];
    }
  }
  return xy;
}

/** Logistic regression with L2 `decay` on the weight, to its optimum by damped Newton steps. */
export function train(xy, labels, decay) {
  const n = labels.length;
  const loss = (t) => {
    let total = 0;
    for (let k = 0; k < n; k++) total += softplus((1 - 2 * labels[k]) * score(t, xy, k));
    return total / n + (decay * (t[0] ** 2 + t[1] ** 2)) / 2;
  };
  let theta = [0, 0, 0];
  for (let step = 0; step < 100; step++) {
    const gradient = [decay * theta[0], decay * theta[1], 0];
    const [a, b, c, d, e, f] = slopes(theta, xy, labels, gradient);
    if (Math.max(...gradient.map(Math.abs)) < 1e-9) break;
    const own = decay + 1e-12;
    const move = solve([a + own, b, c], [b, d + own, e], [c, e, f + 1e-12], gradient);
    const now = loss(theta);
    let factor = 1;
    const next = () => theta.map((t, k) => t - factor * move[k]);
    while (loss(next()) > now && factor > 1e-6) factor /= 2;
    theta = next();
  }
  return theta;
}

/** Add the loss's slopes to `gradient`. Returns: its second ones, by rows of the upper triangle. */
function slopes(theta, xy, labels, gradient) {
  const n = labels.length;
  const hessian = [0, 0, 0, 0, 0, 0];
  for (let k = 0; k < n; k++) {
    const p = sigmoid(score(theta, xy, k));
    const [x, y] = [xy[2 * k], xy[2 * k + 1]];
    const [g, h] = [(p - labels[k]) / n, (p * (1 - p)) / n];
    [x, y, 1].forEach((v, i) => (gradient[i] += g * v));
    [x * x, x * y, x, y * y, y, 1].forEach((v, i) => (hessian[i] += h * v));
  }
  return hessian;
}

/** Three equations by Cramer's rule: rows `a`, `b`, `c` of a symmetric matrix, right side `r`. */
function solve(a, b, c, r) {
  const cross = (u, v) =>
    [0, 1, 2].map((k) => {
      const [i, j] = [(k + 1) % 3, (k + 2) % 3];
      return u[i] * v[j] - u[j] * v[i];
    });
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  const whole = dot(a, cross(b, c));
  return [dot(r, cross(b, c)), dot(a, cross(r, c)), dot(a, cross(b, r))].map((v) => v / whole);
}

/** Pull of the tail's points towards the head and push of the head's, were the bias `bias`. */
export function forces(theta, xy, labels, bias = theta[2]) {
  let [pull, push] = [0, 0];
  for (let k = 0; k < labels.length; k++) {
    const p = sigmoid(score(theta, xy, k) - theta[2] + bias);
    if (labels[k]) pull += 1 - p;
    else push += p;
  }
  return [pull / labels.length, push / labels.length];
}

export const length = (theta) => Math.hypot(theta[0], theta[1]);

/** Distance of the boundary from the origin along its normal: below 0 on the head's side. */
export const position = (theta) => -theta[2] / length(theta);

/** Who owns how much of a test set whose first half is the head's, in %. */
export function regions(theta, test) {
  const n = test.length / 4;
  let [head, tail] = [0, 0];
  for (let k = 0; k < 2 * n; k++)
    if (score(theta, test, k) > 0) {
      if (k < n) head++;
      else tail++;
    }
  const right = [100 - (100 * head) / n, (100 * tail) / n];
  return {
    region: (50 * (head + tail)) / n,
    head: right[0],
    tail: right[1],
    balanced: (right[0] + right[1]) / 2,
  };
}
