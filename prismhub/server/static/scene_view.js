// One scene, opened: its video from its second, what is known of it, and the scenes before and after.

import { drawBars, drawCues, followedTimeline } from "./answers.js";
import { get, lineOf } from "./api.js";
import { byId, clock, el, span } from "./dom.js";
import { fragmentOf, withoutScene } from "./fragment.js";
import { Player } from "./player.js";
import { playFrom, stopPlaying } from "./scenes.js";

const dialog = () => byId("scene");
let shown = null; // what is open: archive and scene
let player = null;
let search = {};

export function startSceneView() {
  dialog().addEventListener("close", () => {
    player?.close();
    [player, shown] = [null, null];
    if (search.scene) location.hash = fragmentOf(withoutScene(search));
  });
  dialog().addEventListener("click", (event) => event.target === dialog() && dialog().close()); // beside it
}

/** Show the scene that a search names, or none. */
export async function showScene(asked) {
  search = asked;
  const key = asked.scene && `${asked.archive ?? ""} ${asked.scene}`;
  if (key === shown) return;
  if (!key) return dialog().close();
  shown = key;
  player?.close();
  stopPlaying();
  const close = el("button", { type: "button", class: "close", text: "Close", on: { click: () => dialog().close() } });
  const told = el("p", { id: "scene-head", text: "Looking …" });
  dialog().replaceChildren(el("header", {}, told, close));
  if (!dialog().open) dialog().showModal();
  close.focus();
  try {
    const scene = await get(`/v1/scenes/${encodeURIComponent(asked.scene)}`, { archive: asked.archive });
    if (shown === key) draw(scene, close);
  } catch (error) {
    if (shown === key) told.textContent = lineOf(error);
  }
}

function draw(scene, close) {
  player = new Player();
  const name = scene.video.split("/").pop();
  const here = withoutScene(search);
  const at = scene.neighbours.findIndex((one) => one.id === scene.id);
  const step = (place, text) => {
    const one = scene.neighbours[place];
    return one
      ? el("a", {
          class: "button",
          href: fragmentOf({ ...here, scene: one.id }),
          text,
          title: span(one.start, one.end),
        })
      : null;
  };
  const facts = [
    scene.video === name ? "" : scene.video,
    span(scene.start, scene.end),
    `of ${clock(scene.duration)}`,
    scene.width ? `${scene.width} x ${scene.height}` : "",
    scene.recorded ? `recorded ${scene.recorded.slice(0, 16).replace("T", " ")}` : "",
  ];
  dialog().replaceChildren(
    el(
      "header",
      {},
      el(
        "div",
        {},
        el("h2", { id: "scene-head", text: name }),
        el("p", { class: "soft", text: facts.filter(Boolean).join(" · ") }),
      ),
      close,
    ),
    player.element,
    el(
      "p",
      { class: "line" },
      step(at - 1, "Scene before"),
      step(at + 1, "Scene after"),
      el("a", { class: "button", href: fragmentOf({ archive: here.archive, like: scene.id }), text: "More like this" }),
    ),
    el("div", { class: "known" }, ...known(scene)),
  );
  playFrom(player.video, scene);
}

/** What adapters found, what is said, and where the scenes of the video are. */
function known(scene) {
  const parts = [];
  const scenes = scene.neighbours.map((one) => ({
    start: one.start,
    end: one.end,
    label: "scenes",
    text: one.id === scene.id ? "this one" : "",
  }));
  const segments = scene.findings.filter((one) => one.label && one.start !== null && one.start !== undefined);
  const spans = [
    ...segments.map((one) => ({ start: one.start, end: one.end, label: one.label, score: one.score })),
    ...scenes,
  ];
  const [drawn] = followedTimeline(spans, player, "the scenes of the video, and what happens in this one");
  drawn.querySelectorAll("button.span").forEach((one) => one.title.endsWith(": this one") && one.classList.add("this"));
  parts.push(drawn);
  const labels = new Map();
  for (const one of scene.findings) {
    if (!one.label || segments.includes(one)) continue;
    if (!labels.has(one.adapter)) labels.set(one.adapter, []);
    labels.get(one.adapter).push([one.label, one.score]);
  }
  for (const [adapter, scores] of labels)
    parts.push(el("section", {}, el("h3", { text: adapter }), drawBars(scores.sort((a, b) => b[1] - a[1]))));
  for (const one of scene.findings)
    if (one.text) parts.push(el("section", {}, el("h3", { text: one.adapter }), el("blockquote", { text: one.text })));
  if (scene.cues.length)
    parts.push(el("section", {}, el("h3", { text: "What is said" }), drawCues(scene.cues, player, "What is said")));
  return parts;
}
