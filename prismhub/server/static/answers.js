// What an adapter says of a video, drawn by the form of its answer: bars, texts, a timeline, boxes over the player.

import { clock, count, el, roving, span } from "./dom.js";
import { COLOURS } from "./player.js";
import { timeline } from "./timeline.js";

const BARS = 8;
const SURE = 0.5;
const MOMENTS = 100;

/** One answer as `predict --json` has it, of an adapter as the server describes it; `player` shows the video. */
export function drawAnswer(record, adapter, player) {
  if (record.error) return el("p", { class: "bad", text: record.error });
  if (record.windows) return drawWindows(record.windows, adapter, player);
  if (record.segments) return drawSegments(record.segments, adapter, player);
  if (record.boxes) return drawBoxes(record.boxes, adapter, player);
  if (record.label !== undefined) return drawBars(scoresOf(record), record);
  if (said(record) !== undefined) return drawText(record);
  if (record.embedding) return drawVector(record);
  return drawPlain(record);
}

/** An answer of a form that has no picture. */
const drawPlain = (record) =>
  el("pre", { class: "tall", tabindex: 0 }, el("code", { text: JSON.stringify(record, null, 2) }));

const drawVector = ({ embedding }, before = "") =>
  el("p", {
    class: "soft",
    text: `${before}a vector of ${embedding.length} numbers in the space of its texts, for class names as below`,
  });

const said = (record) => record.caption ?? record.answer;

const scoresOf = (record) =>
  Object.entries(record.scores ?? { [record.label]: record.score }).sort((a, b) => b[1] - a[1]);

/** The best classes as bars, and on request all of them. */
export function drawBars(scores, record = {}) {
  const rows = el("div", { class: "bars", role: "list" });
  const applies = new Set((record.labels ?? []).map((one) => one.label));
  const draw = (number) =>
    rows.replaceChildren(
      ...scores.slice(0, number).map(([label, score], place) => {
        const right = record.labels ? applies.has(label) : place === 0;
        return el(
          "div",
          { role: "listitem", class: right ? "right" : "" },
          el("span", { class: "label", text: label, title: label }),
          el(
            "span",
            { class: "bar", "aria-hidden": "true" },
            el("i", { style: { width: `${(100 * Math.max(score, 0)).toFixed(2)}%` } }),
          ),
          el("span", { class: "number", text: score.toFixed(3) }),
        );
      }),
    );
  draw(BARS);
  if (scores.length <= BARS) return rows;
  const all = el("button", {
    type: "button",
    class: "quiet",
    text: `All ${scores.length} classes`,
    on: {
      click: () => {
        draw(scores.length);
        all.remove();
      },
    },
  });
  return el("div", {}, rows, all);
}

function drawText(record) {
  const others = (record.candidates ?? []).slice(1, 6);
  return el(
    "div",
    {},
    record.question ? el("p", { class: "soft", text: record.question }) : null,
    el("blockquote", { text: said(record) || "(nothing)" }),
    others.length
      ? el(
          "ul",
          { class: "plain soft" },
          others.map((one) => el("li", { text: `${said(one)} (${one.log_likelihood.toFixed(2)})` })),
        )
      : null,
  );
}

/** A timeline that follows the player, and what lets go of it; `spans` as `timeline` wants them. */
export function followedTimeline(spans, player, title) {
  const made = timeline(spans, player.length, (second) => player.seek(second), title);
  const stop = player.onTime((second, length) => {
    made.length(length);
    made.at(second);
  });
  return [
    el("div", {}, made.element, made.left > 0 ? el("p", { class: "soft", text: `and ${made.left} more` }) : null),
    stop,
  ];
}

/** When something happens; how sure it has to be is chosen by a slider. */
function drawSegments(segments, adapter, player) {
  const place = el("div");
  const told = el("output", { class: "soft" });
  const floor = adapter.threshold ?? 0;
  const slider = el("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.01,
    value: floor,
    "aria-label": "least score of a segment",
  });
  let stop = () => {};
  const draw = () => {
    const shown = segments.filter((one) => one.score >= Number(slider.value));
    stop();
    told.textContent = `score from ${Number(slider.value).toFixed(2)}: ${shown.length} of ${segments.length}`;
    const [drawn, letGo] = shown.length
      ? followedTimeline(shown, player, `${adapter.name}: what happens when`)
      : [
          el("p", { class: "soft", text: segments.length ? "Nothing is as sure as that." : "It finds nothing." }),
          () => {},
        ];
    place.replaceChildren(drawn);
    stop = letGo;
  };
  slider.addEventListener("input", draw);
  draw();
  return el("div", {}, place, segments.length ? el("label", { class: "slider" }, slider, told) : null);
}

/** Window by window: a timeline of what is said, and of classes the bars of the window that is played. */
function drawWindows(windows, adapter, player) {
  const first = windows[0] ?? {};
  if (said(first) !== undefined) {
    const cues = windows.map((one) => ({ start: one.start, end: one.end, text: said(one) }));
    return drawCues(cues, player, adapter.name);
  }
  if (first.embedding) return drawVector(first, `${count(windows.length, "window")}, each as `);
  if (first.label === undefined) return drawPlain(windows);
  const cuts = windows
    .slice(1)
    .map((one, i) => ((one.start + one.end) / 2 + (windows[i].start + windows[i].end) / 2) / 2);
  const ends = [windows[0].start, ...cuts, windows.at(-1).end]; // of overlapping windows each has its half
  const spans = windows.flatMap((one, i) => {
    const [start, end] = [Math.max(one.start, ends[i]), Math.min(one.end, ends[i + 1])];
    return (one.labels ?? [one]).map(({ label, score }) => ({ start, end, label, score }));
  });
  const [bars, when] = [el("div"), el("p", { class: "soft" })];
  let at = -1;
  player.onTime((second) => {
    const now = Math.max(
      0,
      ends.findLastIndex((one, i) => i < windows.length && second >= one),
    );
    if (now === at) return;
    at = now;
    when.textContent = `${span(windows[now].start, windows[now].end)}`;
    bars.replaceChildren(drawBars(scoresOf(windows[now]).slice(0, BARS), windows[now]));
  });
  return el("div", {}, followedTimeline(spans, player, `${adapter.name}: window by window`)[0], when, bars);
}

/** Texts with their seconds, which can be chosen. */
export function drawCues(cues, player, title) {
  const list = el(
    "ol",
    { class: "cues", "aria-label": title },
    cues.map((one) =>
      el(
        "li",
        {},
        el(
          "button",
          { type: "button", class: "quiet", tabindex: -1, on: { click: () => player.seek(one.start) } },
          el("span", { class: "number", text: clock(one.start) }),
          one.number === undefined ? null : el("i", { class: `s${one.number % COLOURS}`, "aria-hidden": "true" }),
          el("span", { text: one.text }),
        ),
      ),
    ),
  );
  const buttons = () => [...list.querySelectorAll("button")];
  roving(list, buttons);
  if (cues.length) buttons()[0].tabIndex = 0;
  player.onTime((second) =>
    buttons().forEach((one, i) => one.classList.toggle("now", second >= cues[i].start && second < cues[i].end)),
  );
  return list;
}

/** Boxes are drawn over the player at their moments; here stands what those in them do. */
function drawBoxes(boxes, adapter, player) {
  const moments = new Map();
  const tracks = [];
  for (const one of boxes) {
    if (!moments.has(one.time)) moments.set(one.time, new Map());
    const here = moments.get(one.time);
    const who = `${one.track ?? ""} ${one.box}`;
    if (one.track && !tracks.includes(one.track)) tracks.push(one.track);
    const number = one.track ? tracks.indexOf(one.track) : (here.get(who)?.number ?? here.size);
    const text = one.labels ? textOf(one.labels) : `${one.label} ${one.score.toFixed(2)}`;
    const before = here.get(who)?.text ?? one.track; // who does several things may have a row for each
    here.set(who, { box: one.box, number, text: before ? `${before}${here.has(who) ? "," : ":"} ${text}` : text });
  }
  const all = [...moments].map(([time, several]) => ({ time, boxes: [...several.values()] }));
  all.sort((a, b) => a.time - b.time);
  player.showBoxes(adapter.name, all);
  if (!all.length) return el("p", { class: "soft", text: "It finds nobody." });
  const cues = all.flatMap(({ time, boxes: several }, i) =>
    several.map(({ text, number }) => ({ start: time, end: all[i + 1]?.time ?? time + 1, text, number })),
  );
  return el(
    "div",
    {},
    drawCues(cues.slice(0, MOMENTS), player, `${adapter.name}: who does what`),
    cues.length > MOMENTS
      ? el("p", { class: "soft", text: `and ${cues.length - MOMENTS} more, over the video` })
      : null,
  );
}

/** The classes that apply, or the best one. */
function textOf(labels) {
  const sure = labels.filter((one) => one.score >= SURE);
  return (
    (sure.length ? sure.slice(0, 4) : labels.slice(0, 1))
      .map((one) => `${one.label} ${one.score.toFixed(2)}`)
      .join(", ") || "-"
  );
}
