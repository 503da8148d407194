import assert from "node:assert/strict";
import {test} from "node:test";

import {placement, fit, toCanvas, toVideo} from "../../../gencompositor_jax/app/static/js/canvas/view.js";
import {fieldOf, said} from "../../../gencompositor_jax/app/static/js/errors.js";
import * as doc from "../../../gencompositor_jax/app/static/js/state/document.js";
import * as steps from "../../../gencompositor_jax/app/static/js/undo.js";

const layer = {...doc.newLayer({path: "a/b.mov", height: 100}, {height: 90}), in_frame: 2, out_frame: 6};

test("undo and redo; a new step ends the redo; the moves of a drag are one step", () => {
  let all = steps.push(steps.push(steps.begin(0), 1), 2);
  assert.equal(steps.undo(all).present, 1);
  assert.equal(steps.redo(steps.undo(all)).present, 2);
  assert.equal(steps.redo(steps.push(steps.undo(all), 5)).present, 5);
  all = steps.push(steps.push(all, 3, "drag"), 4, "drag");
  assert.equal(steps.undo(all).present, 2);
  all = steps.push(steps.settle(all), 6, "drag");
  assert.equal(steps.undo(all).present, 4);
  assert.equal(steps.undo(steps.begin(0)).present, 0);
});

test("the field that a refusal names", () => {
  const time = "job: project: layers[0].trajectory.keyframes[1].time: 2 must be within 0..1";
  assert.equal(fieldOf(time), "layers[0].trajectory.keyframes[1].time");
  assert.equal(fieldOf("job: project: seed: -1 must be within 0..4294967295"), "seed");
  assert.equal(fieldOf("key: 'gren'; pass auto, alpha, white, green, blue or #RRGGBB", 2), "layers[2].key");
  assert.equal(fieldOf("scale 0: too small"), null);
  assert.equal(said("job: project: seed: no"), "seed: no");
});

test("a point of the video is where the canvas shows it", () => {
  const view = fit({width: 200, height: 100}, {width: 1000, height: 800});
  assert.deepEqual(toVideo(view, ...toCanvas(view, 12, -7)).map(Math.round), [12, -7]);
  assert.ok(toCanvas(view, -0.5, 0)[0] > 0);
});

test("an element's anchor is on the path, and rotation is counter-clockwise", () => {
  const view = {scale: 2, left: 10, top: 20}, size = {width: 40, height: 20};
  const at = {x: 5, y: 6, scale: 0.5, rotation: 90};
  for (const [anchor, py] of [["center", 10], ["bottom", 20]]) {
    const [a, b, c, d, e, f] = placement(view, size, anchor, at);
    const place = (x, y) => [a * x + c * y + e, b * x + d * y + f].map((v) => Number(v.toFixed(6)));
    assert.deepEqual(place(20, py), toCanvas(view, 5, 6));
    assert.ok(place(40, py)[1] < place(20, py)[1], "the right side points up");
  }
});

test("a layer counts its time over its own frames", () => {
  assert.deepEqual(doc.spanOf(layer, 9), [2, 6]);
  assert.equal(doc.timeAt(layer, 9, 4), 0.5);
  assert.ok(doc.timeAt(layer, 9, 1) < 0 && doc.timeAt(layer, 9, 7) > 1);
});

test("points have times all or none, and easings only with times", () => {
  const base = doc.withFields(doc.emptyDoc(), {layers: [layer]});
  const arc = doc.withPoints(base, 0, [{x: 1, y: 2, easing: "hold"}, {x: 3, y: 4, scale: null}]);
  assert.deepEqual(arc.project.layers[0].trajectory, {keyframes: [{x: 1, y: 2}, {x: 3, y: 4}], timing: "arc"});
  const timed = doc.withPoints(base, 0, [{x: 1, y: 2, time: 0, easing: "hold"}, {x: 3, y: 4, time: 1}]);
  assert.equal(timed.project.layers[0].trajectory.timing, "time");
  assert.equal(timed.project.layers[0].trajectory.keyframes[0].easing, "hold");
});

test("a project in relative coordinates, and a recording, become key points in pixels", () => {
  const relative = {keyframes: [{x: 0.5, y: 1}], relative: true, timing: "arc"};
  const recording = {keyframes: [{x: 1, y: 1}, {x: 2, y: 2}, {x: 3, y: 1}], timing: "frames"};
  const made = doc.fromProject({layers: [{trajectory: relative}, {trajectory: recording}]}, {width: 100, height: 50});
  assert.deepEqual(made.project.layers[0].trajectory, {keyframes: [{x: 49.5, y: 49.5}], timing: "arc"});
  assert.deepEqual(made.project.layers[1].trajectory.keyframes.map((p) => p.time), [0, 0.5, 1]);
});

test("layers change places and are removed; what is missing is named", () => {
  const two = doc.withFields(doc.emptyDoc(), {layers: [{...layer, foreground: "a"}, {...layer, foreground: "b"}]});
  assert.deepEqual(doc.moveLayer(two, 0, 1).project.layers.map((l) => l.foreground), ["b", "a"]);
  assert.equal(doc.moveLayer(two, 1, 1), two);
  assert.equal(doc.removeLayer(two, 0).project.layers[0].foreground, "b");
  assert.equal(doc.missing(two).field, "background");
  assert.equal(doc.missing(doc.withFields(two, {background: {path: "c"}})).field, "layers[0].trajectory");
  assert.deepEqual(doc.numbers("0.4, 0.34"), [0.4, 0.34]);
  assert.equal(doc.numbers("0.4, x"), null);
});
