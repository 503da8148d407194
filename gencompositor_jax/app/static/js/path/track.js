// From one point per frame to a few key points with times: a pure function.

/** The key points that keep every frame's position within `tolerance` of the straight lines between them.
 * @param {[number, number][]} xy one per frame @param {number} tolerance in pixels
 * @returns {import("./curve.js").KeyPoint[]} */
export function keysOfTrack(xy, tolerance) {
  const last = xy.length - 1;
  if (last < 1) return [{x: xy[0][0], y: xy[0][1]}];
  const keep = new Set([0, last]), open = [[0, last]];
  while (open.length) {
    const [a, b] = /** @type {[number, number]} */ (open.pop());
    let far = -1, most = tolerance;
    for (let t = a + 1; t < b; t++) {
      const s = (t - a) / (b - a);
      const off = Math.hypot(...[0, 1].map((c) => xy[a][c] + s * (xy[b][c] - xy[a][c]) - xy[t][c]));
      if (off > most) { most = off; far = t; }
    }
    if (far >= 0) { keep.add(far); open.push([a, far], [far, b]); }
  }
  return [...keep].sort((a, b) => a - b).map((t) => ({
    x: Number(xy[t][0].toFixed(2)),
    y: Number(xy[t][1].toFixed(2)),
    time: Number((t / last).toFixed(5)),
  }));
}
