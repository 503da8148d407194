// Clips: upload, the example, and what the server knows of those that a project names.

import * as api from "../api.js";
import {Refusal} from "../errors.js";
import {batch, effect, untracked} from "../dom.js";
import {fromProject, newLayer, withFields} from "./document.js";
import {accept, announce, busy, clips, doc, edit, frame, open, plate, project, refuse, selectLayer, tab} from "./store.js";

/** @param {api.Clip} clip */
function know(clip) {
  clips.value = {...clips.value, [clip.path]: clip};
}

/** @param {FileList|File[]} files @param {string} field beside which an error belongs @returns {Promise<api.Clip|null>} */
async function upload(files, field) {
  const name = files.length === 1 ? files[0].name : `${files.length} pictures`;
  busy.value = `Uploading ${name}`;
  try {
    const clip = await api.upload(files);
    accept("upload");
    know(clip);
    announce(`${clip.name}: ${clip.width} by ${clip.height} pixels, ${clip.frames} frames`);
    return clip;
  } catch (error) {
    refuse(error, "upload", field);
    return null;
  } finally {
    busy.value = "";
  }
}

/** @param {FileList|File[]} files */
export async function uploadBackground(files) {
  const clip = await upload(files, "background");
  if (!clip) return;
  batch(() => {
    edit((d) => ({...withFields(d, {background: {path: clip.path, start: 0, end: null, fps: null}, remove: null, frames: null}), strokes: []}));
    frame.value = 0;
    tab.value = "path";
  });
}

/** @param {FileList|File[]} files */
export async function uploadElement(files) {
  const clip = await upload(files, "layers");
  if (!clip) return;
  const index = project.value.layers.length;
  batch(() => {
    edit((d) => withFields(d, {layers: [...d.project.layers, newLayer(clip, plate.value)]}));
    selectLayer(index);
    tab.value = "element";
  });
}

/** @param {FileList|File[]} files @param {string} field @returns {Promise<string|null>} */
export async function uploadMask(files, field) {
  return (await upload(files, field))?.path ?? null;
}

/** The built-in clips. `drawn` also takes the example's trajectory. */
export async function useExample(drawn = false) {
  busy.value = "Making the example";
  try {
    const {background, foreground, project: made} = await api.example();
    batch(() => {
      know(background);
      know(foreground);
      const opened = fromProject(made, background);
      if (!drawn)
        for (const layer of opened.project.layers) layer.trajectory = {keyframes: [], timing: "arc"};
      open(opened);
      tab.value = "path";
    });
    announce("The example is loaded. Draw where the element goes.");
  } catch (error) {
    refuse(error, "example");
  } finally {
    busy.value = "";
  }
}

/** The project's paths that are clips of the server. @param {any} p */
function pathsOf(p) {
  return [p.background?.path, p.remove, ...p.layers.flatMap((/** @type {any} */ l) => [l.foreground, l.mask])].filter(Boolean);
}

/** The clip of a path, which the server may have and this tab doesn't know yet. @param {string} path */
async function lookUp(path) {
  if (!clips.value[path]) clips.value = Object.fromEntries((await api.clips()).map((clip) => [clip.path, clip]));
  const clip = clips.value[path];
  if (!clip) throw new Refusal(0, `${path}: the server doesn't have this clip any more; choose it again`);
  return clip;
}

/** Keeps what is known of the project's clips, and the trimmed background, up to date. */
export function followClips() {
  effect(() => {
    const unknown = pathsOf(project.value).find((path) => !untracked(() => clips.value[path]));
    if (unknown) lookUp(unknown).then(() => accept("clips"), (error) => refuse(error, "clips"));
  });
  let key = "";
  effect(() => {
    const background = project.value.background, whole = background && clips.value[background.path];
    const now = JSON.stringify([background, whole?.id]);
    if (now === key) return;
    key = now;
    if (!whole) { plate.value = null; return; }
    if (!background.start && background.end == null && background.fps == null && !background.range) { plate.value = whole; return; }
    api.clip(whole.id, background).then((clip) => {
      if (key !== now) return;
      accept("background");
      plate.value = clip;
    }, (error) => refuse(error, "background", "background.start"));
  });
}

/** Opens a project file; clips that the server lacks are named in an error. @param {string} text */
export async function openProjectText(text) {
  busy.value = "Opening the project";
  try {
    const {project: opened, missing} = await api.openProject(text);
    if (missing.length) {
      const names = [...new Set(missing.map((m) => m.name))].join(", ");
      throw new Refusal(0, `The project needs ${names}: choose ${missing.length > 1 ? "these files" : "this file"} together with the project file.`);
    }
    await openProject(opened);
    accept("project");
    announce("The project is open");
  } catch (error) {
    refuse(error, "project", "project");
  } finally {
    busy.value = "";
  }
}

/** @param {any} opened a project with the server's paths */
export async function openProject(opened) {
  open(fromProject(opened, await lookUp(opened.background.path)));
}

/** Opens a project file together with its clips: they are uploaded first. @param {FileList|File[]} files */
export async function openFiles(files) {
  const all = [...files], file = all.find((f) => f.name.endsWith(".json"));
  if (!file) return refuse(new Refusal(0, "Choose a project file, such as out.scene.json"), "project", "project");
  for (const clip of all.filter((f) => f !== file)) if (!await upload([clip], "project")) return;
  await openProjectText(await file.text());
}

/** Downloads the project as a file. @param {any} finished with its masks uploaded */
export async function saveProject(finished) {
  try {
    download(URL.createObjectURL(await api.saveProject(finished)), "studio.scene.json");
    accept("save");
  } catch (error) {
    refuse(error, "save");
  }
}

/** @param {string} url @param {string} name */
function download(url, name) {
  const link = Object.assign(document.createElement("a"), {href: url, download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
