// A video of this machine is shown beside what every adapter says of it, and further questions are asked about it.

import { drawAnswer, drawBars } from "./answers.js";
import { call, get, lineOf } from "./api.js";
import { byId, command, count, el, emptyState } from "./dom.js";
import { DrawnBoxes } from "./drawn_boxes.js";
import { Player } from "./player.js";
import { openedArchives, searchLike } from "./search.js";

const MEGABYTE = 1e6;
let open = null; // the video that is looked at: its file, address, player, and what stops its questions

export function startAsk() {
  const [drop, field] = [byId("drop"), byId("file")];
  field.addEventListener("change", () => {
    if (field.files.length) openVideo(field.files[0]);
    field.value = ""; // the same file may be chosen again
  });
  let inside = 0;
  const over = (event, change) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // a file that is dropped anywhere must not replace the page
    inside = change === 0 ? 0 : inside + change;
    drop.classList.toggle("over", inside > 0);
  };
  addEventListener("dragenter", (event) => over(event, 1));
  addEventListener("dragleave", (event) => over(event, -1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(event, 0);
    const [file] = event.dataTransfer?.files ?? [];
    if (!file) return;
    if (location.hash !== "#ask") location.hash = "#ask";
    openVideo(file);
  });
}

export function pauseAsk() {
  open?.player.video.pause();
}

/** What stops the questions about a video; after a stop further ones may be asked. */
function signalOf(mine) {
  if (mine.stop.signal.aborted && mine === open) mine.stop = new AbortController();
  return mine.stop.signal;
}

const tell = (text) => {
  byId("ask-told").textContent = text;
};

/** Show a video and ask every adapter that needs nothing else about it. */
async function openVideo(file) {
  if (open) {
    open.stop.abort();
    open.boxes?.end();
    open.player.close();
    URL.revokeObjectURL(open.address);
  }
  const mine = { file, address: URL.createObjectURL(file), player: new Player(), stop: new AbortController() };
  open = mine;
  mine.player.open(mine.address);
  byId("drop").classList.add("small");
  byId("ask-work").hidden = false;
  const digits = file.size < 0.1 * MEGABYTE ? 2 : file.size < 10 * MEGABYTE ? 1 : 0;
  const size = `${(file.size / MEGABYTE).toFixed(digits)} MB`;
  const further = el("div", { class: "further" });
  byId("ask-left").replaceChildren(
    mine.player.element,
    el("p", { class: "file" }, el("b", { text: file.name }), el("span", { class: "soft", text: ` ${size}` })),
    further,
  );
  byId("ask-right").replaceChildren();
  tell("Looking for adapters …");
  let here;
  try {
    here = await get("/v1/adapters", {}, { signal: signalOf(mine) });
  } catch (error) {
    tell(lineOf(error));
    return;
  }
  if (mine !== open) return;
  further.append(...(await likeIt(mine)));
  const sections = here.adapters.map((one) => section(mine, one));
  byId("ask-right").replaceChildren(...sections.map((one) => one.element));
  if (!here.adapters.length) byId("ask-right").append(noAdapter());
  if (here.encoder.words || here.adapters.some((one) => one.kind === "lit_text")) {
    byId("ask-left").append(byName(mine, here));
  }
  const plain = sections.filter((one) => !one.adapter.needs.length);
  if (!plain.length) return tell("");
  const stop = el("button", { type: "button", class: "quiet", text: "Stop", on: { click: () => mine.stop.abort() } });
  tell(`Asking ${count(plain.length, "adapter")} …`);
  byId("ask-told").append(" ", stop);
  const began = performance.now();
  const found = await predict(mine, plain, {});
  if (found && mine === open)
    tell(`${count(plain.length, "adapter")} answered in ${((performance.now() - began) / 1000).toFixed(1)} s.`);
}

/** Ask adapters, and draw what each says in its section; nothing where that fails, which is told. */
async function predict(mine, sections, fields) {
  const body = new FormData();
  for (const one of sections) body.append("adapters", one.adapter.name);
  body.append("all_scores", "true");
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  body.append("file", mine.file);
  for (const one of sections) one.element.setAttribute("aria-busy", "true");
  try {
    const found = await call("POST", "/v1/predict", { body, signal: signalOf(mine) });
    for (const one of sections)
      one.answer.replaceChildren(
        ...(found[one.adapter.name] ?? []).map((record) => drawAnswer(record, one.adapter, mine.player)),
      );
    return true;
  } catch (error) {
    const again = {
      type: "button",
      class: "quiet",
      text: "Ask again",
      on: {
        click: () => {
          tell("Asking …");
          predict(mine, sections, fields).then((done) => done && tell(""));
        },
      },
    };
    if (mine !== open) return false;
    tell(lineOf(error));
    byId("ask-told").append(" ", el("button", again));
    return false;
  } finally {
    for (const one of sections) one.element.removeAttribute("aria-busy");
  }
}

/** The place of an adapter's answer, with the box for questions or the drawing of boxes where it takes them. */
function section(mine, adapter) {
  const answer = el("div", { class: "answer" });
  const element = el(
    "section",
    { class: "adapter", "aria-label": adapter.name },
    el("h2", {}, adapter.name, el("span", { class: "soft", text: ` ${adapter.kind}` })),
    answer,
  );
  const one = { adapter, element, answer };
  if (adapter.answers === "text") element.append(questionBox(mine, one));
  if (adapter.needs.includes("boxes")) element.append(boxTools(mine, one));
  return one;
}

function questionBox(mine, one) {
  const field = el("input", {
    name: "question",
    placeholder: "What object is it?",
    "aria-label": `A question to ${one.adapter.name}`,
    required: true,
  });
  const form = el("form", { class: "line" }, field, el("button", { type: "submit", text: "Ask" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!field.value.trim()) return;
    tell("Asking …");
    predict(mine, [one], { question: field.value.trim() }).then(
      (done) => done && tell(`${one.adapter.name} answered.`),
    );
  });
  return form;
}

function boxTools(mine, one) {
  const list = el("ol", { class: "drawn" });
  const ask = el("button", {
    type: "button",
    text: "Ask about the boxes",
    disabled: true,
    on: {
      click: () => {
        tell("Asking …");
        drawing(false);
        predict(mine, [one], { boxes: JSON.stringify(mine.boxes.boxes) }).then(
          (done) => done && tell(`${one.adapter.name} answered.`),
        );
      },
    },
  });
  const draw = el("button", {
    type: "button",
    "aria-pressed": "false",
    text: "Draw",
    on: { click: () => drawing(draw.getAttribute("aria-pressed") === "false") },
  });
  const drawing = (on) => {
    mine.boxes.draw(on);
    for (const other of document.querySelectorAll("button[aria-pressed]")) other.setAttribute("aria-pressed", "false");
    draw.setAttribute("aria-pressed", String(on));
  };
  const add = el("button", { type: "button", text: "Add a box", on: { click: () => mine.boxes.add().focus() } });
  mine.told ??= [];
  mine.told.push((boxes) => {
    ask.disabled = !boxes.length;
    list.replaceChildren(
      ...boxes.map((box) =>
        el(
          "li",
          {},
          el("button", {
            type: "button",
            class: "quiet",
            text: `at ${box.time.toFixed(1)} s`,
            on: { click: () => mine.player.seek(box.time) },
          }),
          el("button", {
            type: "button",
            class: "quiet",
            text: "Remove",
            "aria-label": `Remove the box at ${box.time.toFixed(1)} s`,
            on: { click: () => mine.boxes.remove(box) },
          }),
        ),
      ),
    );
  });
  mine.boxes ??= new DrawnBoxes(mine.player, (boxes) => mine.told.forEach((hear) => hear(boxes)));
  return el(
    "div",
    { class: "tools" },
    el("p", {
      class: "soft",
      text:
        "It says what those in boxes do. Stop the video where they are to be seen, and draw boxes over the picture; " +
        "or add one and move it with the arrow keys.",
    }),
    el("p", { class: "line" }, draw, add, ask),
    list,
  );
}

/** Class names, and which of them the video shows. */
function byName(mine, here) {
  const names = el("textarea", {
    name: "labels",
    rows: 3,
    placeholder: "moving left, moving right, approaching",
    required: true,
  });
  const template = el("input", { name: "template", value: "a video of {}" });
  const spaces = [
    ...(here.encoder.words ? [""] : []),
    ...here.adapters.filter((one) => one.kind === "lit_text").map((one) => one.name),
  ];
  const space = el(
    "select",
    { name: "adapter" },
    spaces.map((name) => el("option", { value: name, text: name || here.encoder.name })),
  );
  const answer = el("div", { class: "answer", role: "status", "aria-live": "polite" });
  const form = el(
    "form",
    { class: "named" },
    el("label", {}, "Class names, with commas or a line each ", names),
    el(
      "div",
      { class: "fields" },
      el("label", {}, "As a text ", template),
      spaces.length > 1 ? el("label", {}, "By ", space) : null,
      el("button", { type: "submit", text: "Which is it?" }),
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData();
    for (const name of names.value
      .split(/[\n,]/)
      .map((one) => one.trim())
      .filter(Boolean))
      body.append("labels", name);
    if (template.value.trim()) body.append("template", template.value.trim());
    if (space.value) body.append("adapter", space.value);
    body.append("all_scores", "true");
    body.append("file", mine.file);
    answer.replaceChildren(el("p", { class: "soft", text: "Asking …" }));
    try {
      const [record] = await call("POST", "/v1/zero-shot", { body, signal: signalOf(mine) });
      answer.replaceChildren(
        drawBars(
          Object.entries(record.scores).sort((a, b) => b[1] - a[1]),
          record,
        ),
      );
    } catch (error) {
      answer.replaceChildren(el("p", { class: "bad", text: lineOf(error) }));
    }
  });
  return el(
    "section",
    { class: "adapter", "aria-label": "Names without training" },
    el("h2", {}, "Names without training", el("span", { class: "soft", text: " zero-shot" })),
    form,
    answer,
  );
}

async function likeIt(mine) {
  const archives = await openedArchives();
  return archives.map((one) =>
    el("button", {
      type: "button",
      text: archives.length > 1 ? `Find scenes like it in ${one.name}` : "Find scenes like it",
      on: { click: () => searchLike(mine.file, one.name) },
    }),
  );
}

const noAdapter = () =>
  emptyState(
    "No adapter is loaded",
    "An adapter is a small head that learns from your examples in minutes. Train one, with a folder for each class:",
    command("prismhub train --data my_videos/ --adapter map_classifier --encoder nano --name my-labels"),
    el("p", {}, "Then load it under ", el("a", { href: "#adapters", text: "Adapters" }), "."),
  );
