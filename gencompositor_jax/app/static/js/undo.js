// Undo and redo of immutable documents: pure functions.

/** @template T @typedef {{past: T[], present: T, future: T[], tag: string|null}} Undo */

const MOST = 200; // steps that are kept

/** @template T @param {T} present @returns {Undo<T>} */
export function begin(present) {
  return {past: [], present, future: [], tag: null};
}

/** A further step. Steps with the same tag, such as the moves of one drag, become one.
 * @template T @param {Undo<T>} steps @param {T} next @param {string|null} [tag] @returns {Undo<T>} */
export function push(steps, next, tag = null) {
  if (next === steps.present) return steps;
  if (tag !== null && tag === steps.tag) return {...steps, present: next, future: []};
  return {past: [...steps.past, steps.present].slice(-MOST), present: next, future: [], tag};
}

/** Ends the run of steps that become one.
 * @template T @param {Undo<T>} steps @returns {Undo<T>} */
export function settle(steps) {
  return steps.tag === null ? steps : {...steps, tag: null};
}

/** @template T @param {Undo<T>} steps @returns {Undo<T>} */
export function undo({past, present, future, tag}) {
  if (!past.length) return {past, present, future, tag};
  return {past: past.slice(0, -1), present: past[past.length - 1], future: [present, ...future], tag: null};
}

/** @template T @param {Undo<T>} steps @returns {Undo<T>} */
export function redo({past, present, future, tag}) {
  if (!future.length) return {past, present, future, tag};
  return {past: [...past, present], present: future[0], future: future.slice(1), tag: null};
}
