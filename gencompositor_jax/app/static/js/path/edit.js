// Editing of key points: pure functions. Points and distances are in pixels of the background.

/** @typedef {import("./curve.js").KeyPoint} KeyPoint */

/** The index of the key point nearest to (x, y) within `radius`, the upper one of equals; -1 if there is none.
 * @param {KeyPoint[]} points @param {number} x @param {number} y @param {number} radius */
export function hitPoint(points, x, y, radius) {
  let found = -1, nearest = radius;
  points.forEach((p, i) => {
    const distance = Math.hypot(p.x - x, p.y - y);
    if (distance <= nearest) { found = i; nearest = distance; }
  });
  return found;
}

/** Where a curve passes (x, y) within `radius`: the index at which a key point would be inserted; -1 if nowhere.
 * @param {{x: number[], y: number[]}} curve samples at evenly spread times
 * @param {number[]} keyTimes of the key points @param {number} x @param {number} y @param {number} radius */
export function hitCurve(curve, keyTimes, x, y, radius) {
  let nearest = radius, time = -1;
  for (let i = 0; i < curve.x.length - 1; i++) {
    const ax = curve.x[i], ay = curve.y[i], dx = curve.x[i + 1] - ax, dy = curve.y[i + 1] - ay;
    const length = dx * dx + dy * dy;
    const s = length ? Math.min(Math.max(((x - ax) * dx + (y - ay) * dy) / length, 0), 1) : 0;
    const distance = Math.hypot(ax + s * dx - x, ay + s * dy - y);
    if (distance <= nearest) { nearest = distance; time = (i + s) / (curve.x.length - 1); }
  }
  return time < 0 ? -1 : keyTimes.filter((t) => t <= time).length;
}

/** A point inserted before `index`; if the others have times, it gets one between its neighbours' or, at an
 * end, one that makes space for it.
 * @param {KeyPoint[]} points @param {number} index @param {KeyPoint} point @returns {KeyPoint[]} */
export function insert(points, index, point) {
  const timed = points.length > 0 && points.every((p) => p.time != null);
  const added = timed ? {...point, time: between(points, index)} : point;
  const all = [...points.slice(0, index), added, ...points.slice(index)];
  if (!timed || (index > 0 && index < points.length)) return all;
  if (points.length === 1) return all.map((p, i) => ({...p, time: i}));
  // A point beyond an end: the keys keep their order, and the outermost one its time.
  const crowded = index === 0 ? /** @type {number} */ (points[0].time) <= 0 : /** @type {number} */ (points[points.length - 1].time) >= 1;
  if (!crowded) return all;
  const n = all.length - 1, shrink = (n - 1) / n;
  return all.map((p, i) => i === index ? {...p, time: index === 0 ? 0 : 1}
    : {...p, time: index === 0 ? 1 - (1 - (p.time ?? 0)) * shrink : (p.time ?? 0) * shrink});
}

/** @param {KeyPoint[]} points @param {number} index */
function between(points, index) {
  if (index === 0) return 0;
  if (index === points.length) return 1;
  return ((points[index - 1].time ?? 0) + (points[index].time ?? 1)) / 2;
}

/** A key point with some fields changed.
 * @param {KeyPoint[]} points @param {number} index @param {Partial<KeyPoint>} change @returns {KeyPoint[]} */
export function change(points, index, change) {
  return points.map((p, i) => (i === index ? {...p, ...change} : p));
}

/** @param {KeyPoint[]} points @param {number} index @returns {KeyPoint[]} */
export function remove(points, index) {
  return points.filter((_, i) => i !== index);
}

/** A key point's time, kept between its neighbours'; the others get the times that they are reached at.
 * @param {KeyPoint[]} points @param {number[]} keyTimes at which the points are reached
 * @param {number} index @param {number} time 0..1 @returns {KeyPoint[]} */
export function setTime(points, keyTimes, index, time) {
  const gap = 1e-3;
  const low = index > 0 ? keyTimes[index - 1] + gap : 0;
  const high = index < points.length - 1 ? keyTimes[index + 1] - gap : 1;
  const kept = Math.min(Math.max(time, low), Math.max(low, high));
  return points.map((p, i) => ({...p, time: round(i === index ? kept : keyTimes[i], 4)}));
}

/** The points without times: constant speed.
 * @param {KeyPoint[]} points @returns {KeyPoint[]} */
export function clearTimes(points) {
  return points.map(({time: _, ...p}) => p);
}

/** (x, y) moved to the nearest of the given lines within `tolerance`, and the lines that it was moved to.
 * @param {number} x @param {number} y @param {{xs: number[], ys: number[]}} lines @param {number} tolerance */
export function snap(x, y, lines, tolerance) {
  const vertical = closest(x, lines.xs, tolerance), horizontal = closest(y, lines.ys, tolerance);
  return {x: vertical ?? x, y: horizontal ?? y, guides: {x: vertical, y: horizontal}};
}

/** @param {number} value @param {number[]} lines @param {number} tolerance @returns {number|null} */
function closest(value, lines, tolerance) {
  let found = null, nearest = tolerance;
  for (const line of lines) {
    const distance = Math.abs(line - value);
    if (distance <= nearest) { found = line; nearest = distance; }
  }
  return found;
}

/** The lines that a dragged point snaps to: the frame's edges and middle, and the other points.
 * @param {KeyPoint[]} points @param {number} except @param {number} width @param {number} height */
export function snapLines(points, except, width, height) {
  const others = points.filter((_, i) => i !== except);
  return {
    xs: [0, (width - 1) / 2, width - 1, ...others.map((p) => p.x)],
    ys: [0, (height - 1) / 2, height - 1, ...others.map((p) => p.y)],
  };
}

/** A stroke reduced to the points that keep it within `tolerance` (Ramer, Douglas, Peucker).
 * @param {{x: number, y: number}[]} stroke @param {number} tolerance @returns {KeyPoint[]} */
export function simplify(stroke, tolerance) {
  if (stroke.length < 3) return stroke.map(({x, y}) => ({x, y}));
  const keep = new Set([0, stroke.length - 1]), open = [[0, stroke.length - 1]];
  while (open.length) {
    const [a, b] = /** @type {number[]} */ (open.pop());
    let far = -1, most = tolerance;
    for (let i = a + 1; i < b; i++) {
      const distance = fromSegment(stroke[i], stroke[a], stroke[b]);
      if (distance > most) { most = distance; far = i; }
    }
    if (far >= 0) { keep.add(far); open.push([a, far], [far, b]); }
  }
  return stroke.filter((_, i) => keep.has(i)).map(({x, y}) => ({x, y}));
}

/** @param {{x: number, y: number}} p @param {{x: number, y: number}} a @param {{x: number, y: number}} b */
function fromSegment(p, a, b) {
  const dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
  const s = length ? Math.min(Math.max(((p.x - a.x) * dx + (p.y - a.y) * dy) / length, 0), 1) : 0;
  return Math.hypot(p.x - a.x - s * dx, p.y - a.y - s * dy);
}

/** @param {number} value @param {number} digits */
export function round(value, digits) {
  return Number(value.toFixed(digits));
}
