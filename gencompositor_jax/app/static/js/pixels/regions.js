// Regions of an element's mask over time: pure functions on masks, Uint8ClampedArray [height * width] of 0..255.

const SEEN = 13; // alpha from which a pixel is of the element
const GROWN = 2; // times the region of the frame before: a larger part has grown together with another
const ALIKE = 40; // difference of the channels, 0..255, up to which a pixel belongs to a clicked colour

/** @typedef {Uint8ClampedArray} Mask */
/** @typedef {{width: number, height: number}} Size */

/** The connected pixels around one that `inside` accepts; none if it doesn't accept that one.
 * @param {Size} size @param {number} start index of a pixel @param {(i: number) => boolean} inside @returns {Set<number>} */
export function flood({width, height}, start, inside) {
  const found = new Set(inside(start) ? [start] : []);
  for (const i of found) { // a set also visits what is added meanwhile
    const x = i % width, y = (i - x) / width;
    for (const j of [x > 0 ? i - 1 : i, x < width - 1 ? i + 1 : i, y > 0 ? i - width : i, y < height - 1 ? i + width : i])
      if (!found.has(j) && inside(j)) found.add(j);
  }
  return found;
}

/** The part of each frame's mask that a click in one frame means: there the part under it, in the other frames
 * the parts that lie over that of the frame before.
 * @param {Mask[]} masks @param {Size} size @param {number} at frame @param {number} x @param {number} y
 * @returns {Promise<Set<number>[]>} */
export async function partOverTime(masks, size, at, x, y) {
  const first = flood(size, y * size.width + x, (i) => masks[at][i] >= SEEN);
  return overTime(masks.length, at, first, async (t, before) => {
    const part = new Set(), seen = new Set();
    for (const i of before) {
      if (seen.has(i) || masks[t][i] < SEEN) continue;
      const whole = flood(size, i, (j) => masks[t][j] >= SEEN);
      for (const j of whole) seen.add(j);
      if (whole.size <= GROWN * before.size) for (const j of whole) part.add(j);
    }
    return part;
  });
}

/** The pixels of the clicked colour around a click, and in the other frames around the most alike pixel of the
 * frame before's.
 * @param {(t: number) => Promise<Uint8ClampedArray>} picture RGBA of a frame @param {number} frames
 * @param {Size} size @param {number} at @param {number} x @param {number} y @returns {Promise<Set<number>[]>} */
export async function colourOverTime(picture, frames, size, at, x, y) {
  const start = y * size.width + x, clicked = await picture(at), wanted = clicked.slice(4 * start, 4 * start + 3);
  /** @param {Uint8ClampedArray} rgba @param {number} i */
  const off = (rgba, i) => Math.max(...[0, 1, 2].map((c) => Math.abs(rgba[4 * i + c] - wanted[c])));
  const first = flood(size, start, (i) => off(clicked, i) <= ALIKE);
  return overTime(frames, at, first, async (t, before) => {
    const rgba = await picture(t);
    let nearest = -1, least = ALIKE + 1;
    for (const i of before) {
      const difference = off(rgba, i);
      if (difference < least) { least = difference; nearest = i; }
    }
    return nearest < 0 ? new Set() : flood(size, nearest, (i) => off(rgba, i) <= ALIKE);
  });
}

/** A region followed from a frame forwards and backwards.
 * @param {number} frames @param {number} at @param {Set<number>} first
 * @param {(t: number, before: Set<number>) => Promise<Set<number>>} next */
async function overTime(frames, at, first, next) {
  const all = Array.from({length: frames}, () => new Set());
  all[at] = first;
  for (let t = at + 1; t < frames; t++) all[t] = await next(t, all[t - 1]);
  for (let t = at - 1; t >= 0; t--) all[t] = await next(t, all[t + 1]);
  return all;
}

/** The mask with a region added or removed. @param {Mask} mask @param {Set<number>} region @param {boolean} add @returns {Mask} */
export function withRegion(mask, region, add) {
  const out = mask.slice();
  for (const i of region) out[i] = add ? 255 : 0;
  return out;
}
