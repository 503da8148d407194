// From pixels of a video to CSS pixels of the canvas, and back. Pixel centres are at integers, so that the
// video's edges are at -0.5 and width - 0.5.

/** @typedef {{scale: number, left: number, top: number}} View */

/** The video in the middle of the canvas, with a margin for points outside the frame.
 * @param {{width: number, height: number}} video @param {{width: number, height: number}} canvas
 * @param {number} [margin] fraction of the video's size @returns {View} */
export function fit(video, canvas, margin = 0.06) {
  const scale = Math.min(canvas.width / (video.width * (1 + 2 * margin)), canvas.height / (video.height * (1 + 2 * margin)));
  return {
    scale,
    left: (canvas.width - video.width * scale) / 2,
    top: (canvas.height - video.height * scale) / 2,
  };
}

/** @param {View} view @param {number} x @param {number} y of the video @returns {[number, number]} */
export function toCanvas({scale, left, top}, x, y) {
  return [left + (x + 0.5) * scale, top + (y + 0.5) * scale];
}

/** @param {View} view @param {number} x @param {number} y of the canvas @returns {[number, number]} */
export function toVideo({scale, left, top}, x, y) {
  return [(x - left) / scale - 0.5, (y - top) / scale - 0.5];
}

/** The canvas transform (a, b, c, d, e, f) under which an element image is drawn at one pixel of the path:
 * equation (1) of controls/geometry/placement.py, then the view.
 * @param {View} view @param {{width: number, height: number}} element @param {"center"|"bottom"} anchor
 * @param {{x: number, y: number, scale: number, rotation: number}} at
 * @returns {[number, number, number, number, number, number]} */
export function placement(view, element, anchor, at) {
  const angle = (at.rotation * Math.PI) / 180, size = at.scale * view.scale;
  const a = size * Math.cos(angle), b = -size * Math.sin(angle), c = -b, d = a;
  const px = element.width / 2, py = anchor === "bottom" ? element.height : element.height / 2;
  const [x, y] = toCanvas(view, at.x, at.y);
  return [a, b, c, d, x - a * px - c * py, y - b * px - d * py];
}
