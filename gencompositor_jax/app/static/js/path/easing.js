// Easing over a fraction 0..1 of a segment or of a layer's time: cubic Beziers with handles of a third.

/** @typedef {"linear"|"ease-in"|"ease-out"|"ease-in-out"|"hold"} Easing */

/** @type {Record<string, (s: number) => number>} */
const CURVES = {
  linear: (s) => s,
  "ease-in": (s) => s * s * (2 - s),
  "ease-out": (s) => s * (1 + s - s * s),
  "ease-in-out": (s) => s * s * (3 - 2 * s),
  hold: () => 0,
};

/** @param {string|null|undefined} easing @param {number} s 0..1 */
export function ease(easing, s) {
  return CURVES[easing ?? "linear"](s);
}

/** Ease in and ease out as two switches, and back.
 * @param {boolean} start slow at the start @param {boolean} end slow at the end @returns {Easing} */
export function easingOf(start, end) {
  return start ? (end ? "ease-in-out" : "ease-in") : end ? "ease-out" : "linear";
}
