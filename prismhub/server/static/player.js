// A video with boxes drawn over its picture in time, and who wants to know where it is.

import { el } from "./dom.js";

export const COLOURS = 6;

export class Player {
  constructor() {
    this.video = el("video", { controls: true, playsinline: true, preload: "auto", "aria-label": "the video" });
    this.overlay = el("div", { class: "overlay" });
    this.stage = el("div", { class: "stage" }, this.video, this.overlay);
    this.trouble = el("p", { class: "soft", role: "status" });
    this.element = el("div", { class: "player" }, this.stage, this.trouble);
    this.followers = new Set();
    this.moments = new Map(); // of each adapter its moments with boxes
    this.drawn = "";
    this.second = 0; // where there is no picture that could be played
    for (const event of ["timeupdate", "seeking", "seeked", "loadedmetadata"])
      this.video.addEventListener(event, () => this.tell());
    this.video.addEventListener("play", () => this.follow());
    this.video.addEventListener("loadedmetadata", () => {
      const { videoWidth, videoHeight } = this.video;
      if (videoWidth && videoHeight) this.stage.style.setProperty("--ratio", (videoWidth / videoHeight).toFixed(4));
    });
    this.video.addEventListener("error", () => {
      if (this.video.getAttribute("src"))
        this.trouble.textContent =
          "This browser cannot play this file. What adapters say of it does not depend on that.";
    });
  }

  /** Another video, by its address; a file of this machine has a `blob:` one. */
  open(address) {
    this.trouble.textContent = "";
    this.second = 0;
    this.showBoxes();
    this.video.src = address;
  }

  close() {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    this.followers.clear();
    this.showBoxes();
  }

  get time() {
    return this.video.error ? this.second : this.video.currentTime;
  }

  get length() {
    return Number.isFinite(this.video.duration) ? this.video.duration : 0;
  }

  seek(second) {
    this.second = second;
    if (!this.video.error) this.video.currentTime = second;
    this.tell();
  }

  /** Call `hear(second, length)` now and whenever the second changes. */
  onTime(hear) {
    this.followers.add(hear);
    hear(this.time, this.length);
    return () => this.followers.delete(hear);
  }

  follow() {
    if (this.video.paused || this.video.ended) return;
    this.tell();
    requestAnimationFrame(() => this.follow());
  }

  tell() {
    for (const hear of this.followers) hear(this.time, this.length);
    this.drawBoxes();
  }

  /** Boxes of an adapter, or none: moments `{time, boxes: [{box, text, number}]}`; without a name all go. */
  showBoxes(name, moments) {
    if (!name) this.moments.clear();
    else if (moments?.length) this.moments.set(name, { moments, hold: holdOf(moments) });
    else this.moments.delete(name);
    this.drawn = "";
    this.drawBoxes();
  }

  drawBoxes() {
    const boxes = [];
    for (const { moments, hold } of this.moments.values()) {
      const near = moments.reduce(
        (best, one) => (!best || Math.abs(one.time - this.time) < Math.abs(best.time - this.time) ? one : best),
        null,
      );
      if (near && Math.abs(near.time - this.time) <= hold) boxes.push(...near.boxes);
    }
    const shown = JSON.stringify(boxes);
    if (shown === this.drawn) return;
    this.drawn = shown;
    for (const one of this.overlay.querySelectorAll(".box.said")) one.remove();
    this.overlay.append(...boxes.map((one) => boxElement(one.box, one.text, one.number, "said")));
  }
}

/** A box over a picture; corners are fractions of it. */
export function boxElement(corners, text, number, kind) {
  const made = el(
    "div",
    { class: `box ${kind} s${number % COLOURS}` },
    el("span", { class: corners[1] < 0.12 ? "low" : "", text }),
  );
  place(made, corners);
  return made;
}

export function place(box, [left, top, right, bottom]) {
  const rules = { left, top, width: right - left, height: bottom - top };
  for (const [name, part] of Object.entries(rules)) box.style.setProperty(name, `${(100 * part).toFixed(2)}%`);
}

/** Seconds around a moment in which its boxes are shown: half way to the next one, three at most. */
function holdOf(moments) {
  const times = moments.map((one) => one.time).sort((a, b) => a - b);
  const gaps = times
    .slice(1)
    .map((time, i) => time - times[i])
    .sort((a, b) => a - b);
  const middle = gaps.length ? gaps[Math.floor(gaps.length / 2)] : 2;
  return Math.min(Math.max(middle / 2, gaps.length ? 0.05 : 1), 3);
}
