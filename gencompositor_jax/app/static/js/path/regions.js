// The points of a segmenter as text: "point:120,80", further points after spaces, a minus before those that
// are not of the element. Pure functions.

/** @typedef {{x: number, y: number, add: boolean}} Region */

/** @param {string|null|undefined} segment @returns {Region[]} */
export function regionsOf(segment) {
  if (!segment?.startsWith("point:")) return [];
  return segment.slice(6).split(/\s+/).filter(Boolean).map((pair) => {
    const [x, y] = pair.replace(/^!/, "").split(",").map(Number);
    return {x, y, add: !pair.startsWith("!")};
  });
}

/** @param {Region[]} regions @returns {string|undefined} */
export function textOf(regions) {
  if (!regions.length) return undefined;
  return `point:${regions.map(({x, y, add}) => `${add ? "" : "!"}${x},${y}`).join(" ")}`;
}
