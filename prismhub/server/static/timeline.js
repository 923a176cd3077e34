// What happens when, as a row for each label: spans that can be clicked, and a line where the player is.

import { clock, el, roving, span } from "./dom.js";
import { COLOURS } from "./player.js";

const MOST_ROWS = 30;
const MOST_SPANS = 300;
const MOST_LANES = 6; // of a row, for spans that overlap

/**
 * A timeline of `spans`, each `{start, end, label, score, text}` in seconds, over `length` seconds.
 * `seek(second)` is called for a span that is chosen. It returns the element, `at(second)` to move the line, and
 * `length(second)` where the length is known later.
 */
export function timeline(spans, length, seek, title) {
  const surest = [...spans].sort((a, b) => (b.score ?? 1) - (a.score ?? 1));
  const labels = [...new Set(surest.map((one) => one.label))].slice(0, MOST_ROWS);
  const shown = surest.filter((one) => labels.includes(one.label)).slice(0, MOST_SPANS);
  let whole = Math.max(length || 0, ...shown.map((one) => one.end), 0.001);
  const placed = []; // elements with their spans
  const line = el("i", { class: "playhead", "aria-hidden": "true" });
  const scale = el("div", { class: "scale soft", "aria-hidden": "true" });
  const rows = labels.map((label, number) => {
    const mine = shown.filter((one) => one.label === label).sort((a, b) => a.start - b.start);
    const lanes = lanesOf(mine);
    const track = el(
      "div",
      { class: "track", style: { "--lanes": Math.max(...lanes) + 1 } },
      mine.map((one, i) => {
        const score = one.score === undefined ? "" : `, score ${one.score.toFixed(2)}`;
        const about = `${one.label}, ${span(one.start, one.end)}${score}${one.text ? `: ${one.text}` : ""}`;
        const button = el("button", {
          type: "button",
          class: `span s${number % COLOURS}`,
          tabindex: -1,
          title: about,
          "aria-label": about,
          style: { "--lane": lanes[i] },
          on: { click: () => seek(one.start) },
        });
        if (one.score !== undefined)
          button.style.setProperty("--sure", Math.max(0.25, Math.min(one.score, 1)).toFixed(3));
        placed.push([button, one]);
        return button;
      }),
    );
    return el("div", { class: "row" }, el("span", { class: "label", text: label, title: label }), track);
  });
  const element = el(
    "div",
    { class: "timeline", role: "group", "aria-label": title },
    rows,
    el("div", { class: "row" }, el("span", { class: "label" }), el("div", { class: "track ruler" }, scale, line)),
  );
  const buttons = () => [...element.querySelectorAll("button.span")];
  roving(element, buttons);
  if (placed.length) buttons()[0].tabIndex = 0;

  function lay() {
    for (const [button, one] of placed) {
      button.style.setProperty("left", `${(100 * one.start) / whole}%`);
      button.style.setProperty("width", `${(100 * Math.max(one.end - one.start, 0)) / whole}%`);
    }
    scale.replaceChildren(
      ...[0, 0.25, 0.5, 0.75, 1].map((part) =>
        el("span", { text: clock(part * whole), style: { left: `${100 * part}%` } }),
      ),
    );
  }
  lay();
  return {
    element,
    left: spans.length - shown.length,
    at(second) {
      line.style.setProperty("left", `${Math.min(100, (100 * second) / whole)}%`);
      for (const [button, one] of placed) button.classList.toggle("now", second >= one.start && second < one.end);
    },
    length(second) {
      const known = Math.max(second, ...shown.map((one) => one.end), 0.001);
      if (second <= 0 || Math.abs(known - whole) < 0.01) return;
      whole = known;
      lay();
    },
  };
}

/** For each span, which come in the order of their starts, the first lane that is free by then. */
function lanesOf(spans) {
  const ends = [];
  return spans.map(({ start, end }) => {
    const free = ends.findIndex((one) => one <= start + 1e-6);
    const lane = free >= 0 ? free : Math.min(ends.length, MOST_LANES - 1);
    ends[lane] = Math.max(end, ends[lane] ?? 0);
    return lane;
  });
}
