// Found scenes as cards: a picture that plays from its second when asked, and what is known of the scene.

import { count, el, span } from "./dom.js";
import { fragmentOf, withoutScene } from "./fragment.js";

const PIECE = 60; // cards drawn at once: full rows of 1 to 6
const LABELS = 4; // shown on a card
let playing = null;

/**
 * Draw cards into a list, a piece at a time as people come near its end; returns what lets go of the rest.
 *
 * A piece is laid out by itself, and not at all while it is out of sight: a new one moves none of those before.
 */
export function drawScenes(list, scenes, search) {
  stopPlaying();
  list.replaceChildren();
  const end = el("div", { class: "end", role: "none" });
  let drawn = 0;
  const more = () => {
    const some = scenes.slice(drawn, drawn + PIECE);
    const cards = some.map((scene, i) => card(scene, search, drawn + i + 1, scenes.length));
    drawn += some.length;
    end.before(el("div", { class: "piece", role: "none" }, cards));
    watcher.unobserve(end); // an observer tells of changes alone: where the end is still near, it is asked again
    if (drawn < scenes.length) watcher.observe(end);
    else end.remove();
  };
  const near = (seen) => seen.some((one) => one.isIntersecting) && more();
  const watcher = new IntersectionObserver(near, { rootMargin: "1500px" });
  list.append(end);
  more();
  return () => watcher.disconnect();
}

/** Arrow keys go from picture to picture, by rows up and down. */
export function cardKeys(list) {
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: "down", ArrowUp: "up" }[event.key];
    if (!step || !event.target.matches(".picture") || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const all = [...list.querySelectorAll(".picture")];
    const at = all.indexOf(event.target);
    const across = getComputedStyle(list.querySelector(".piece")).gridTemplateColumns.split(" ").length;
    all[at + (step === "down" ? across : step === "up" ? -across : step)]?.focus();
  });
}

function card(scene, search, place, of) {
  const title = `${scene.video}, ${span(scene.start, scene.end)}`;
  const folders = scene.video.split("/");
  const name = folders.pop();
  const about = [scene.scenes > 1 ? count(scene.scenes, "scene") : "", folders.join("/")]
    .filter(Boolean)
    .map((text) => ` ${text}`)
    .join(" ·");
  const found = [...(scene.labels ?? [])].slice(0, LABELS);
  const left = (scene.labels ?? []).length - found.length;
  const here = withoutScene(search);
  return el(
    "div",
    { class: "card", role: "listitem", "aria-setsize": of, "aria-posinset": place },
    el(
      "article",
      { "aria-label": title },
      picture(scene, title),
      el(
        "div",
        { class: "said" },
        el(
          "h3",
          { title: scene.video },
          el("a", { href: fragmentOf({ ...here, scene: scene.id }), text: name }),
          el("span", { class: "soft", text: about }),
        ),
        scene.caption ? el("p", { class: "caption", text: scene.caption, title: scene.caption }) : null,
        found.length
          ? el(
              "ul",
              { class: "chips" },
              found.map((one) =>
                el("li", {}, el("span", { text: one.label }), el("b", { text: one.score.toFixed(2) })),
              ),
              left > 0 ? el("li", { class: "soft", text: `+${left}` }) : null,
            )
          : null,
        scene.speech ? el("p", { class: "speech soft", text: `“${scene.speech}”`, title: scene.speech }) : null,
        el(
          "div",
          { class: "foot" },
          shares(scene),
          el("a", {
            class: "like",
            href: fragmentOf({
              archive: search.archive,
              top: search.top,
              mode: search.mode === "text" ? "" : search.mode,
              like: scene.id,
            }),
            text: "More like this",
            "aria-label": `More like ${title}`,
          }),
        ),
      ),
    ),
  );
}

/** How much of the score looks and words gave. */
function shares(scene) {
  const parts = scene.parts ?? {};
  const whole = Object.values(parts).reduce((a, b) => a + b, 0);
  if (!whole) return el("span");
  const part = (name) => el("i", { class: name, style: { width: `${(100 * (parts[name] ?? 0)) / whole}%` } });
  return el(
    "span",
    { class: "shares", title: `score ${scene.score.toFixed(4)}` },
    el("span", { class: "split", "aria-hidden": "true" }, part("vector"), part("text")),
    el("span", { text: scene.shares }),
  );
}

function picture(scene, title) {
  const button = el(
    "button",
    { type: "button", class: "picture", "aria-label": `Play ${title}` },
    scene.thumbnail
      ? el("img", { src: scene.thumbnail, alt: "", loading: "lazy", decoding: "async" })
      : el("span", { class: "none", text: "no picture" }),
    el("span", { class: "glyph", "aria-hidden": "true" }),
    el("span", { class: "time", text: span(scene.start, scene.end) }),
  );
  button.addEventListener("click", () => play(button, scene, title));
  return button;
}

/** The scene in the place of its picture, until its end, another one, or Escape. */
function play(button, scene, title) {
  stopPlaying();
  const video = el("video", { controls: true, playsinline: true, preload: "auto", "aria-label": title, tabindex: "0" });
  const holder = el("div", { class: "picture" }, video);
  playFrom(video, scene);
  video.addEventListener("error", () => {
    const why = "The video is gone, or this browser cannot play it.";
    holder.replaceChildren(
      el("p", { class: "none", role: "alert", text: why }),
      el("button", { type: "button", class: "close", text: "Back", on: { click: () => stopPlaying(true) } }),
    );
  });
  holder.addEventListener("keydown", (event) => event.key === "Escape" && stopPlaying(true));
  playing = { holder, button, video };
  button.replaceWith(holder);
  video.focus({ preventScroll: true });
}

/** Start a video at a scene's second; it stops once at the scene's end, and then plays on where people want it. */
export function playFrom(video, scene) {
  let stopped = false;
  video.src = scene.stream;
  video.addEventListener("loadedmetadata", () => {
    if (Math.abs(video.currentTime - scene.start) > 0.5) video.currentTime = scene.start;
  });
  video.addEventListener("timeupdate", () => {
    if (stopped || video.currentTime < scene.end - 0.02) return;
    stopped = true;
    video.pause();
  });
  video.play().catch(() => {}); // where it may not, its controls are there
}

export function stopPlaying(focus = false) {
  if (!playing) return;
  const { holder, button, video } = playing;
  playing = null;
  video.pause();
  video.removeAttribute("src");
  video.load();
  holder.replaceWith(button);
  if (focus) button.focus();
}
