// Drawing of the trajectory's canvas. Colours are the page's, so that both themes are met.

import {placement, toCanvas} from "./view.js";

/** @typedef {import("./view.js").View} View */
/** @typedef {import("../path/curve.js").Path} Path */

const POINT = 7; // CSS pixels: radius of a key point

/** @param {CanvasRenderingContext2D} context @param {View} view
 * @param {{width: number, height: number}} video @param {CanvasImageSource|null} image */
export function drawFrame(context, view, video, image) {
  const width = video.width * view.scale, height = video.height * view.scale;
  context.fillStyle = "#0c0c0c";
  context.fillRect(view.left, view.top, width, height);
  if (!image) return;
  context.imageSmoothingEnabled = view.scale < 3;
  context.drawImage(image, view.left, view.top, width, height);
}

/** A ghost of the element at one moment of its path.
 * @param {CanvasRenderingContext2D} context @param {View} view @param {CanvasImageSource} image
 * @param {{width: number, height: number}} element @param {"center"|"bottom"} anchor
 * @param {{x: number, y: number, scale: number, rotation: number}} at @param {number} opacity */
export function drawElement(context, view, image, element, anchor, at, opacity) {
  context.save();
  context.globalAlpha = opacity;
  context.transform(...placement(view, element, anchor, at));
  context.drawImage(image, 0, 0, element.width, element.height);
  context.restore();
}

/** @param {CanvasRenderingContext2D} context @param {View} view @param {{x: number[], y: number[]}} curve
 * @param {string} colour @param {number} width */
export function drawCurve(context, view, curve, colour, width) {
  const line = new Path2D();
  curve.x.forEach((x, i) => line.lineTo(...toCanvas(view, x, curve.y[i])));
  context.lineJoin = "round";
  outlined(context, line, colour, width);
}

/** Dots at each frame: their distance is the speed.
 * @param {CanvasRenderingContext2D} context @param {View} view @param {{x: number[], y: number[]}} path @param {string} colour */
export function drawFrames(context, view, path, colour) {
  context.fillStyle = colour;
  path.x.forEach((x, i) => {
    context.beginPath();
    context.arc(...toCanvas(view, x, path.y[i]), 2, 0, 2 * Math.PI);
    context.fill();
  });
}

/** @param {CanvasRenderingContext2D} context @param {View} view @param {{x: number, y: number}[]} points
 * @param {number} selected @param {string} colour */
export function drawPoints(context, view, points, selected, colour) {
  context.font = "600 11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  points.forEach((point, i) => {
    const [x, y] = toCanvas(view, point.x, point.y), chosen = i === selected;
    context.beginPath();
    context.arc(x, y, chosen ? POINT + 3 : POINT + 1, 0, 2 * Math.PI);
    context.fillStyle = chosen ? colour : "rgba(16, 16, 16, 0.85)";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = chosen ? "#fff" : colour;
    context.stroke();
    context.fillStyle = chosen ? "#111" : "#fff";
    context.fillText(String(i + 1), x, y + 0.5);
  });
}

/** The lines that a point has snapped to.
 * @param {CanvasRenderingContext2D} context @param {View} view @param {{width: number, height: number}} video
 * @param {{x: number|null, y: number|null}} guides @param {string} colour */
export function drawGuides(context, view, video, guides, colour) {
  const line = new Path2D();
  if (guides.x !== null) {
    line.moveTo(...toCanvas(view, guides.x, -0.5));
    line.lineTo(...toCanvas(view, guides.x, video.height - 0.5));
  }
  if (guides.y !== null) {
    line.moveTo(...toCanvas(view, -0.5, guides.y));
    line.lineTo(...toCanvas(view, video.width - 0.5, guides.y));
  }
  context.setLineDash([4, 4]);
  outlined(context, line, colour, 1);
  context.setLineDash([]);
}

/** @param {CanvasRenderingContext2D} context @param {Path2D} line @param {string} colour @param {number} width */
function outlined(context, line, colour, width) {
  context.lineWidth = width + 2;
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.stroke(line);
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke(line);
}
