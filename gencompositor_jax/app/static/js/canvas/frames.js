// Pictures by URL, kept while they are likely to be drawn again. Drawing again follows the signal `arrived`.

import {signal} from "../dom.js";

const MOST = 240; // pictures that are kept
const AGAIN_MS = 3000; // after which a picture that couldn't be had is asked for again
/** @type {Map<string, HTMLImageElement>} */
const kept = new Map();
export const arrived = signal(0);
/** How many pictures are on their way. Written while views are drawn, so it is never read there. */
export const pending = signal(0);

/** @param {number} by */
const count = (by) => { pending.value = pending.peek() + by; };

/** The picture if it is here; else null, and `arrived` changes when it is.
 * @param {string|null} url @returns {HTMLImageElement|null} */
export function picture(url) {
  if (url === null) return null;
  const found = kept.get(url);
  if (found) {
    kept.delete(url); // the newest are last
    kept.set(url, found);
    return found.complete && found.naturalWidth ? found : null;
  }
  const image = new Image();
  kept.set(url, image);
  count(1);
  image.onload = () => { count(-1); arrived.value++; };
  image.onerror = () => { count(-1); setTimeout(() => kept.delete(url), AGAIN_MS); };
  image.src = url;
  if (kept.size > MOST) kept.delete(/** @type {string} */ (kept.keys().next().value));
  return null;
}
