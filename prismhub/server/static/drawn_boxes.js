// Boxes that people draw over a video: by dragging, or with the arrow keys.

import { clock, el } from "./dom.js";
import { boxElement, place } from "./player.js";

const STEP = 0.02;
const NEAR = 0.2; // seconds from a box's moment in which it is shown

/** Boxes `{time, box}` over a player; `changed(boxes)` is told of every change. */
export class DrawnBoxes {
  constructor(player, changed) {
    this.player = player;
    this.changed = changed;
    this.boxes = [];
    this.elements = new Map();
    this.stop = player.onTime(() => this.show());
    player.stage.addEventListener("pointerdown", (event) => this.begin(event));
  }

  end() {
    this.stop();
    this.draw(false);
    this.clear();
  }

  /** Whether dragging over the picture draws a box. */
  draw(drawing) {
    this.drawing = drawing;
    this.player.stage.classList.toggle("drawing", drawing);
    this.player.video.controls = !drawing;
    if (!drawing) return;
    this.player.video.pause();
    this.player.stage.scrollIntoView({ block: "nearest" });
  }

  /** A box in the middle, to be moved by keys. */
  add(corners = [0.3, 0.3, 0.7, 0.7]) {
    this.player.video.pause();
    const one = { time: Math.round(this.player.time * 1000) / 1000, box: corners };
    const element = boxElement(corners, "", this.boxes.length, "mine");
    element.tabIndex = 0;
    element.setAttribute("role", "group");
    element.addEventListener("keydown", (event) => this.key(event, one));
    this.boxes.push(one);
    this.elements.set(one, element);
    this.player.overlay.append(element);
    this.update(one);
    return element;
  }

  remove(one) {
    this.elements.get(one).remove();
    this.elements.delete(one);
    this.boxes = this.boxes.filter((other) => other !== one);
    this.changed(this.boxes);
  }

  clear() {
    for (const one of [...this.boxes]) this.remove(one);
  }

  show() {
    for (const [one, element] of this.elements) element.hidden = Math.abs(one.time - this.player.time) > NEAR;
  }

  update(one) {
    const element = this.elements.get(one);
    place(element, one.box);
    const where = one.box.map((edge) => Math.round(100 * edge)).join(", ");
    element.setAttribute(
      "aria-label",
      `Box at ${clock(one.time)}: left, top, right, bottom ${where} %. ` +
        "Arrow keys move it, with Shift they change its size, Delete removes it.",
    );
    this.changed(this.boxes);
  }

  key(event, one) {
    const [dx, dy] =
      { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key] ?? [];
    if (event.key === "Delete" || event.key === "Backspace") this.remove(one);
    else if (dx === undefined) return;
    else {
      const [left, top, right, bottom] = one.box;
      if (event.shiftKey) one.box = [left, top, within(right + dx, left + STEP, 1), within(bottom + dy, top + STEP, 1)];
      else {
        const [x, y] = [within(dx, -left, 1 - right), within(dy, -top, 1 - bottom)];
        one.box = [left + x, top + y, right + x, bottom + y];
      }
      this.update(one);
    }
    event.preventDefault();
  }

  begin(event) {
    if (!this.drawing || event.button !== 0) return;
    event.preventDefault();
    const { stage } = this.player;
    const from = this.at(event);
    const element = this.add([...from, ...from]);
    const one = this.boxes.at(-1);
    const move = (to) => {
      const [x, y] = this.at(to);
      one.box = [Math.min(from[0], x), Math.min(from[1], y), Math.max(from[0], x), Math.max(from[1], y)];
      this.update(one);
    };
    stage.setPointerCapture(event.pointerId);
    stage.addEventListener("pointermove", move);
    const done = () => {
      stage.removeEventListener("pointermove", move);
      const [left, top, right, bottom] = one.box;
      if (right - left < 0.01 || bottom - top < 0.01)
        this.remove(one); // a click draws nothing
      else element.focus({ preventScroll: true });
    };
    stage.addEventListener("lostpointercapture", done, { once: true });
  }

  at(event) {
    const all = this.player.stage.getBoundingClientRect();
    return [within((event.clientX - all.left) / all.width, 0, 1), within((event.clientY - all.top) / all.height, 0, 1)];
  }
}

const within = (value, least, most) => Math.round(1e4 * Math.min(Math.max(value, least), most)) / 1e4;
