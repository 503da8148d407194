// The curve through the key points, as controls/geometry computes it: shown while a point is dragged, without
// a request. tests/app compares both.

import {ease} from "./easing.js";

/** @typedef {{x: number, y: number, time?: number|null, scale?: number|null, rotation?: number|null, easing?: string|null}} KeyPoint */
/** @typedef {{x: number[], y: number[], scale: number[], rotation: number[], keyTimes: number[]}} Path */

const SAME = 1e-6; // pixels, or fractions of the clip: keys closer than this are one

/** Derivatives of the monotone cubic (PCHIP) at its knots. Knots increase; as many values as knots, 2 or more.
 * @param {number[]} knots @param {number[]} values @returns {number[]} */
function slopes(knots, values) {
  const h = knots.slice(1).map((k, i) => k - knots[i]);
  const m = h.map((step, i) => (values[i + 1] - values[i]) / step);
  if (m.length === 1) return [m[0], m[0]];
  const inner = m.slice(1).map((after, i) => {
    const before = m[i];
    if (before * after <= 0) return 0;
    const w1 = 2 * h[i + 1] + h[i], w2 = h[i + 1] + 2 * h[i];
    return (w1 + w2) / (w1 / before + w2 / after);
  });
  const n = m.length;
  return [end(h[0], h[1], m[0], m[1]), ...inner, end(h[n - 1], h[n - 2], m[n - 1], m[n - 2])];
}

/** @param {number} h0 @param {number} h1 @param {number} m0 @param {number} m1 */
function end(h0, h1, m0, m1) {
  const d = ((2 * h0 + h1) * m0 - h0 * m1) / (h0 + h1);
  if (Math.sign(d) !== Math.sign(m0)) return 0;
  return Math.sign(m0) !== Math.sign(m1) && Math.abs(d) > 3 * Math.abs(m0) ? 3 * m0 : d;
}

/** PCHIP through values at increasing times; constant before the first and after the last. Of several keys at
 * the same time the last one is used.
 * @param {number[]} times @param {number[]} values @param {number[]} at @returns {number[]} */
export function interpolate(times, values, at) {
  const keep = times.map((t, i) => i === times.length - 1 || times[i + 1] - t > SAME);
  const t = times.filter((_, i) => keep[i]), v = values.filter((_, i) => keep[i]);
  if (t.length === 1) return at.map(() => v[0]);
  const d = slopes(t, v);
  return at.map((x) => {
    const clamped = Math.min(Math.max(x, t[0]), t[t.length - 1]);
    let i = 0;
    while (i < t.length - 2 && clamped > t[i + 1]) i++;
    const h = t[i + 1] - t[i], s = (clamped - t[i]) / h;
    const a = (1 + 2 * s) * (1 - s) ** 2, b = s * (1 - s) ** 2, c = s * s * (3 - 2 * s), e = s * s * (s - 1);
    return a * v[i] + b * h * d[i] + c * v[i + 1] + e * h * d[i + 1];
  });
}

/** @param {number[]} xs @param {number[]} ys @param {number} x increasing xs; linear between them */
function linear(xs, ys, x) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  const width = xs[high] - xs[low];
  return width > 0 ? ys[low] + ((ys[high] - ys[low]) * Math.min(Math.max(x - xs[low], 0), width)) / width : ys[low];
}

/** @param {number[]} values the running sum, from 0 */
function sums(values) {
  let total = 0;
  return [0, ...values.map((value) => (total += value))];
}

/** `n` numbers from 0 to 1.
 * @param {number} n */
export function spread(n) {
  return Array.from({length: n}, (_, i) => (n > 1 ? i / (n - 1) : 0));
}

/** A smooth curve through points, sampled at fractions of its length, and the fraction at which each point is
 * reached.
 * @param {KeyPoint[]} points @param {number[]} fractions
 * @returns {{x: number[], y: number[], keyTimes: number[]}} */
export function alongCurve(points, fractions) {
  const chords = sums(points.slice(1).map((p, i) => Math.hypot(p.x - points[i].x, p.y - points[i].y)));
  if (chords[chords.length - 1] <= SAME)
    return {x: fractions.map(() => points[0].x), y: fractions.map(() => points[0].y), keyTimes: spread(points.length)};
  const kept = points.filter((_, i) => i === 0 || chords[i] - chords[i - 1] > SAME);
  const knots = chords.filter((c, i) => i === 0 || c - chords[i - 1] > SAME);
  const pieces = Math.max(8, Math.floor(2048 / knots.length));
  const fine = knots.slice(0, -1).flatMap((k, i) => spread(pieces + 1).slice(0, -1).map((s) => k + s * (knots[i + 1] - k)));
  fine.push(knots[knots.length - 1]);
  const x = interpolate(knots, kept.map((p) => p.x), fine), y = interpolate(knots, kept.map((p) => p.y), fine);
  const length = sums(x.slice(1).map((v, i) => Math.hypot(v - x[i], y[i + 1] - y[i])));
  const total = length[length.length - 1];
  const at = fractions.map((f) => linear(length, fine, f * total));
  return {
    x: interpolate(knots, kept.map((p) => p.x), at),
    y: interpolate(knots, kept.map((p) => p.y), at),
    keyTimes: chords.map((c) => linear(fine, length, c) / total),
  };
}

/** Whether the key points have times of their own.
 * @param {KeyPoint[]} points */
export function isTimed(points) {
  return points.length > 0 && points.every((p) => p.time != null);
}

/** Values of the key points over time: PCHIP through all of them, straight and eased from a key with an easing
 * to the next one.
 * @param {{time: number, value: number, easing?: string|null}[]} keys @param {number[]} at */
function overTime(keys, at) {
  const times = keys.map((k) => k.time), values = keys.map((k) => k.value);
  return interpolate(times, values, at).map((smooth, j) => {
    const i = times.findLastIndex((t) => t <= at[j]);
    if (i < 0 || i === keys.length - 1 || keys[i].easing == null) return smooth;
    const s = (at[j] - times[i]) / (times[i + 1] - times[i]);
    return values[i] + (values[i + 1] - values[i]) * ease(keys[i].easing, s);
  });
}

/** The element's position, scale and rotation at each of `at` (0 is the layer's first frame, 1 its last).
 * @param {KeyPoint[]} points 1 or more @param {number[]} at
 * @param {{scales?: number[], rotations?: number[], easing?: string|null}} [layer] @returns {Path} */
export function resolve(points, at, layer = {}) {
  const eased = at.map((s) => ease(layer.easing, s));
  const times = points.map((p) => p.time ?? 0);
  /** @param {"x"|"y"} axis */
  const axis = (axis) => overTime(points.map((p, i) => ({time: times[i], value: p[axis], easing: p.easing})), eased);
  const curve = isTimed(points) ? {x: axis("x"), y: axis("y"), keyTimes: times} : alongCurve(points, eased);
  /** @param {"scale"|"rotation"} name @param {number} unset */
  const own = (name, unset) => {
    const keys = points.map((p, i) => ({time: curve.keyTimes[i], value: p[name], easing: p.easing}));
    const given = /** @type {{time: number, value: number}[]} */ (keys.filter((k) => k.value != null));
    return given.length ? overTime(given, eased) : eased.map(() => unset);
  };
  /** @param {number[]} values */
  const even = (values) => interpolate(spread(values.length), values, eased);
  const scales = even(layer.scales ?? [1]), rotations = even(layer.rotations ?? [0]);
  return {
    ...curve,
    scale: own("scale", 1).map((s, i) => s * scales[i]),
    rotation: own("rotation", 0).map((r, i) => r + rotations[i]),
  };
}
