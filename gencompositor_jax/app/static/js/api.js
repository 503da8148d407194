// The server's routes. Every function raises Refusal with the server's line.

import {Refusal} from "./errors.js";

/** @typedef {{id: string, path: string, name: string, kind: string, frames: number, fps: number, seconds: number,
 *   width: number, height: number, has_alpha: boolean, has_audio: boolean, bytes: number}} Clip */
/** @typedef {{id: string, frames: number, width: number, height: number, left: number, top: number,
 *   clip: {width: number, height: number}, key: string, key_name: string, fps: number, coverage: number}} Element */
/** @typedef {{id: string, state: string, before: number|null, progress: {done: number, total: number}|null,
 *   created: string, finished: string|null, seconds: number|null, device: string|null, error: string|null,
 *   request?: {project: any}}} Run */
/** @typedef {{id: string, frames: number, fps: number, width: number, height: number, layers: any[],
 *   model: {frames: number, height: number, width: number, windows: number}}} Preview */

/** @param {string} path @param {RequestInit} [init] @returns {Promise<Response>} */
async function send(path, init) {
  let answer;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") throw error;
    throw new Refusal(0, "The studio's server doesn't answer; start it again with: gencompositor app");
  }
  if (answer.ok) return answer;
  const body = await answer.text();
  let detail = `${answer.status} ${answer.statusText}`, field = null;
  try { ({detail, field = null} = JSON.parse(body)); } catch { /* not ours: a proxy's page */ }
  throw new Refusal(answer.status, String(detail), field);
}

/** @param {string} path @param {any} value @param {AbortSignal} [signal] @param {Record<string, string>} [headers] */
const post = async (path, value, signal, headers = {}) =>
  (await send(path, {
    method: "POST",
    body: JSON.stringify(value),
    headers: {"Content-Type": "application/json", ...headers},
    signal,
  })).json();

/** @param {string} path */
const get = async (path) => (await send(path)).json();

/** @param {string} path */
const remove = (path) => send(path, {method: "DELETE"});

export const state = () => get("/app/state");
export const model = () => get("/app/model");
/** @param {string} token */
export const login = (token) =>
  send("/app/login", {method: "POST", body: JSON.stringify({token}), headers: {"Content-Type": "application/json"}});

/** @returns {Promise<{background: Clip, foreground: Clip, project: any}>} */
export const example = () => post("/app/example", {});

/** @param {FileList|File[]} files one clip, or the pictures of a sequence @returns {Promise<Clip>} */
export async function upload(files) {
  const form = new FormData();
  for (const file of files) form.append("file", file, file.name);
  return (await send("/app/clips", {method: "POST", body: form})).json();
}

/** @returns {Promise<Clip[]>} */
export const clips = () => get("/app/clips");

/** @typedef {{start?: number|null, end?: number|null, fps?: number|null, range?: [number, number]|null}} Part of a clip */

/** @param {string} id @param {Part} part @returns {Promise<Clip>} */
export const clip = (id, part) => get(`/app/clips/${id}${query(trim(part))}`);

/** @param {string} id @param {Part} part @param {number} frame @param {number} width @param {string} [format] */
export const frameUrl = (id, part, frame, width, format) =>
  `/app/clips/${id}/frames/${frame}${query({width, format, ...trim(part)})}`;

/** @param {any} layer @param {number|null} fps @param {AbortSignal} [signal] @returns {Promise<Element>} */
export const element = (layer, fps, signal) => post("/app/elements", {...layer, fps}, signal);

/** @param {string} id @param {number} frame @param {number} width @param {boolean} [whole] in the clip's frame */
export const elementUrl = (id, frame, width, whole) =>
  `/app/elements/${id}/frames/${frame}${query({width, format: "webp", whole: whole ? 1 : undefined})}`;

/** @param {any} request @returns {Promise<{xy: [number, number][], first: number, last: number, lost: number|null, report: string}>} */
export const track = (request) => post("/app/track", request);

/** @param {any} project @param {AbortSignal} [signal] @returns {Promise<Preview>} */
export const preview = (project, signal) => post("/app/previews", {project}, signal);

/** @param {string} id @param {number} frame @param {number} width @param {string} show */
export const previewUrl = (id, frame, width, show) => `/app/previews/${id}/frames/${frame}${query({width, show})}`;

/** @param {any} project @param {string} key that makes a repeated request harmless @returns {Promise<Run>} */
export const compose = (project, key) => post("/v1/jobs", {project, layer: true}, undefined, {"Idempotency-Key": key});

/** @returns {Promise<Run[]>} */
export const runs = () => get("/v1/jobs?limit=50");
/** @param {string} id @returns {Promise<Run>} */
export const run = (id) => get(`/v1/jobs/${id}`);
/** @param {string} id @returns {Promise<Run>} */
export const cancel = (id) => post(`/v1/jobs/${id}/cancel`, {});
/** @param {string} id */
export const removeRun = (id) => remove(`/v1/jobs/${id}`);
/** @param {string} id @param {string} what result, input, sheet, layer, report, project, events @param {any} [query_] */
export const runUrl = (id, what, query_ = {}) => `/v1/jobs/${id}/${what}${query(query_)}`;

/** @param {string} text of a project file @returns {Promise<{project: any, missing: {field: string, name: string}[]}>} */
export const openProject = async (text) =>
  (await send("/app/project/open", {method: "POST", body: text, headers: {"Content-Type": "application/json"}})).json();

/** @param {any} project @returns {Promise<Blob>} */
export const saveProject = async (project) =>
  (await send("/app/project/save", {
    method: "POST",
    body: JSON.stringify({project}),
    headers: {"Content-Type": "application/json"},
  })).blob();

/** @param {Part} part */
const trim = ({start, end, fps, range}) => ({
  start: start || undefined, end: end ?? undefined, fps: fps ?? undefined, range: range?.join("-"),
});

/** @param {Record<string, any>} values */
function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}
