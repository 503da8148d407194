import assert from "node:assert/strict";
import {test} from "node:test";

import {interpolate, resolve, spread} from "../../../gencompositor_jax/app/static/js/path/curve.js";
import * as edit from "../../../gencompositor_jax/app/static/js/path/edit.js";

const corner = [{x: 0, y: 0}, {x: 100, y: 0}, {x: 100, y: 100}];

test("values stay within those of two keys, and are constant outside", () => {
  const at = spread(41).map((s) => s * 2 - 0.5);
  const values = interpolate([0, 0.4, 1], [0, 10, 10], at);
  assert.ok(values.every((v) => v >= 0 && v <= 10));
  assert.equal(values[0], 0);
  assert.equal(values.at(-1), 10);
});

test("points without times are passed at constant speed", () => {
  const {x, y} = resolve(corner, spread(101));
  const steps = x.slice(1).map((v, i) => Math.hypot(v - x[i], y[i + 1] - y[i]));
  assert.ok(Math.max(...steps) / Math.min(...steps) < 1.05);
  assert.ok(x.every((v) => v > -1e-9 && v < 100 + 1e-9));
});

test("points with times are passed at them, and 'hold' waits", () => {
  const points = [{x: 0, y: 0, time: 0, easing: "hold"}, {x: 10, y: 0, time: 0.5}, {x: 20, y: 0, time: 1}];
  const {x} = resolve(points, [0, 0.25, 0.499, 0.5, 1]);
  assert.deepEqual(x, [0, 0, 0, 10, 20]);
});

test("one point keeps its position; the layer's scales multiply its own", () => {
  const path = resolve([{x: 3, y: 4, scale: 2}], spread(3), {scales: [1, 0.5], rotations: [10]});
  assert.deepEqual(path.x, [3, 3, 3]);
  assert.deepEqual([path.scale[0], path.scale[2]], [2, 1]);
  assert.deepEqual(path.rotation, [10, 10, 10]);
});

test("a layer's ease in starts slowly", () => {
  const {x} = resolve([{x: 0, y: 0}, {x: 100, y: 0}], [0, 0.1, 1], {easing: "ease-in"});
  assert.ok(x[1] < 5 && Math.abs(x[2] - 100) < 1e-9);
});

test("the nearest point is hit, the upper one of equals, none beyond the radius", () => {
  assert.equal(edit.hitPoint(corner, 98, 3, 10), 1);
  assert.equal(edit.hitPoint([{x: 0, y: 0}, {x: 0, y: 0}], 1, 1, 5), 1);
  assert.equal(edit.hitPoint(corner, 50, 50, 10), -1);
});

test("a click on the curve inserts between the points beside it", () => {
  const curve = resolve(corner, spread(101));
  assert.equal(edit.hitCurve(curve, curve.keyTimes, 50, 2, 5), 1);
  assert.equal(edit.hitCurve(curve, curve.keyTimes, 99, 60, 5), 2);
  assert.equal(edit.hitCurve(curve, curve.keyTimes, 20, 60, 5), -1);
});

test("inserted points keep times increasing, at each end and between", () => {
  const timed = corner.map((p, i) => ({...p, time: i / 2}));
  for (const index of [0, 1, 2, 3]) {
    const times = edit.insert(timed, index, {x: 5, y: 5}).map((p) => p.time);
    assert.ok(times.every((t, i) => t >= 0 && t <= 1 && (i === 0 || t > times[i - 1])), `${index}: ${times}`);
  }
  assert.deepEqual(edit.insert(corner, 1, {x: 5, y: 5}).map((p) => p.x), [0, 5, 100, 100]);
});

test("a point's time stays between its neighbours', and all get times", () => {
  const times = edit.setTime(corner, [0, 0.5, 1], 1, 2).map((p) => p.time);
  assert.deepEqual(times, [0, 0.999, 1]);
  assert.ok(edit.clearTimes([{x: 1, y: 2, time: 1}]).every((p) => !("time" in p)));
});

test("a point snaps to the nearest line within the tolerance, each axis by itself", () => {
  const lines = edit.snapLines(corner, 0, 201, 101);
  assert.deepEqual(edit.snap(97, 30, lines, 5), {x: 100, y: 30, guides: {x: 100, y: null}});
  assert.deepEqual(edit.snap(150, 52, lines, 5), {x: 150, y: 50, guides: {x: null, y: 50}});
});

test("a stroke is reduced to its corners", () => {
  const stroke = [...spread(50).map((s) => ({x: 100 * s, y: 0.3 * (s * 50 % 2)})), ...spread(50).map((s) => ({x: 100, y: 100 * s}))];
  const kept = edit.simplify(stroke, 2);
  assert.equal(kept.length, 3);
  assert.ok(Math.hypot(kept[1].x - 100, kept[1].y) <= 2);
});
