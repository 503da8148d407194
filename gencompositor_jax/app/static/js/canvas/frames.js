// Pictures by URL, kept while they are likely to be drawn again. Drawing again follows the signal `arrived`.

import {signal} from "../dom.js";

const MOST = 240; // pictures that are kept
/** @type {Map<string, HTMLImageElement>} */
const kept = new Map();
export const arrived = signal(0);

/** The picture if it is here; else null, and `arrived` changes when it is.
 * @param {string} url @returns {HTMLImageElement|null} */
export function picture(url) {
  const found = kept.get(url);
  if (found) {
    kept.delete(url); // the newest are last
    kept.set(url, found);
    return found.complete && found.naturalWidth ? found : null;
  }
  const image = new Image();
  kept.set(url, image);
  image.onload = () => { arrived.value++; };
  image.onerror = () => kept.delete(url);
  image.src = url;
  if (kept.size > MOST) kept.delete(/** @type {string} */ (kept.keys().next().value));
  return null;
}
