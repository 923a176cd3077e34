// Searching an archive: the form, what it finds, and what to do where nothing is found.

import { get, call, lineOf } from "./api.js";
import { byId, command, count, el, emptyState } from "./dom.js";
import { conditionOf, fragmentOf, withoutScene } from "./fragment.js";
import { cardKeys, drawScenes, stopPlaying } from "./scenes.js";

const SIMPLE = ["q", "where", "label", "least", "most", "archive", "mode", "top", "all"];
let archives = null;
let shown = null; // the search whose answer is there
let running = null;
let letGo = () => {};

const form = () => byId("search-form");

export function startSearch() {
  form().addEventListener("submit", (event) => {
    event.preventDefault();
    go(formValues());
  });
  form().addEventListener("change", (event) => {
    if (event.target.name === "archive") chooseArchive(event.target.value);
  });
  byId("clear").addEventListener("click", () => {
    fillForm({ q: byId("q").value });
    byId("q").focus();
  });
  cardKeys(byId("scenes"));
  byId("filters").open = matchMedia("(min-width: 48rem)").matches;
}

/** Go to a search; the same again is asked again. */
function go(search) {
  const to = fragmentOf(search);
  if (to === location.hash || (to === "#" && !location.hash)) showSearch(search, true);
  else location.hash = to;
}

function formValues() {
  const given = new FormData(form());
  const search = Object.fromEntries(SIMPLE.map((name) => [name, (given.get(name) ?? "").trim()]));
  if (search.archive === archives?.[0]?.name) search.archive = "";
  return search;
}

function fillForm(search) {
  for (const name of SIMPLE) {
    const field = form().elements[name];
    if (field.type === "checkbox") field.checked = Boolean(search[name]);
    else if (name !== "archive") field.value = search[name] ?? "";
    else if (archives?.length) field.value = search.archive || archives[0].name;
  }
  if (SIMPLE.slice(1).some((name) => search[name] && name !== "archive")) byId("filters").open = true;
}

/** Show the search that the address names; what is there already stays. */
export async function showSearch(search, again = false) {
  if (!archives && !(await openArchives())) return;
  fillForm(search);
  const asked = fragmentOf(withoutScene(search));
  if (!again && asked === shown) return;
  shown = asked;
  chooseArchive(search.archive);
  if (!search.q && !search.like && !conditionOf(search)) return showStart(search);
  await ask(
    search,
    (signal) =>
      get(
        "/v1/search",
        {
          q: search.q,
          like: search.like,
          where: conditionOf(search),
          archive: search.archive,
          mode: search.mode,
          top: search.top || 24,
          all: search.all,
          anyway: search.anyway,
        },
        { signal },
      ),
    search.like && !search.q ? "like the scene" : "",
  );
}

/** Scenes like a video that was dropped; there is no address of such a search. */
export async function searchLike(file, archive) {
  if (!archives && !(await openArchives())) return;
  if (location.hash !== "#") {
    history.pushState(null, "", "#");
    dispatchEvent(new HashChangeEvent("hashchange"));
  }
  fillForm({});
  shown = null;
  const body = new FormData();
  body.append("top", 24);
  if (archive) body.append("archive", archive);
  body.append("file", file);
  await ask({ archive }, (signal) => call("POST", "/v1/search", { body, signal }), `like ${file.name}`);
}

async function openArchives() {
  try {
    archives = (await get("/v1/archives")).archives;
  } catch (error) {
    if (error.status !== 404) {
      byId("search-told").textContent = lineOf(error);
      return false;
    }
    archives = [];
  }
  const choice = form().elements.archive;
  choice.replaceChildren(
    ...archives.map((one) => el("option", { value: one.name, text: `${one.name} (${count(one.scenes, "scene")})` })),
  );
  byId("archive-field").hidden = archives.length < 2;
  form().hidden = archives.length === 0;
  if (archives.length) return true;
  clear();
  byId("search-empty").replaceChildren(
    emptyState(
      "No archive is open",
      "An archive knows the scenes of a folder of videos. Make one, and start the server with it:",
      command("prismhub index my_videos/ --encoder nano --out archive\nprismhub serve --archive archive"),
      el("p", {}, "Until then, a single video can be ", el("a", { href: "#ask", text: "asked about" }), "."),
    ),
  );
  archives = null; // it is looked for again
  return false;
}

export const openedArchives = async () =>
  archives ??
  (await get("/v1/archives").then(
    (found) => found.archives,
    () => [],
  ));

function chooseArchive(name) {
  const one = archives.find((archive) => archive.name === name) ?? archives[0];
  byId("labels").replaceChildren(...one.labels.map((label) => el("option", { value: label })));
  byId("columns").textContent = one.columns.length
    ? `A condition may name ${one.columns.join(", ")}; with =, <, >=, in, like, and, or, not.`
    : "";
}

function clear() {
  running?.abort();
  letGo();
  stopPlaying();
  for (const id of ["scenes", "search-empty", "search-notes"]) byId(id).replaceChildren();
  byId("search-told").textContent = "";
}

/** Before anything is asked: what there is to look for. */
function showStart(search) {
  clear();
  const one = archives.find((archive) => archive.name === search.archive) ?? archives[0];
  byId("search-told").textContent =
    `${one.name}: ${count(one.scenes, "scene")} of ${count(one.videos, "video")}, encoded by ${one.encoder}`;
  const link = (more) => fragmentOf({ archive: search.archive, top: search.top, ...more });
  const labels = one.labels.slice(0, 24).map((label) => el("li", {}, el("a", { href: link({ label }), text: label })));
  if (!one.scenes) {
    byId("search-empty").replaceChildren(
      emptyState(
        "The archive is empty",
        "Index a folder of videos into it:",
        command("prismhub index my_videos/ --out archive"),
      ),
    );
    return;
  }
  byId("search-empty").replaceChildren(
    emptyState(
      "What do you look for?",
      one.words
        ? "Describe what is to be seen, or said, or written; put in quotes what must be there word for word."
        : "The encoder of this archive knows no words: a text is looked for in speech, captions, labels and names of " +
            "files. Scenes are found by example too: “More like this” on a scene.",
      el("p", {}, el("a", { class: "button", href: link({ where: "duration > 0" }), text: "Browse all scenes" })),
      labels.length ? el("p", { class: "soft", text: "What adapters found most often:" }) : "",
      el("ul", { class: "chips large" }, labels),
    ),
  );
}

async function ask(search, request, like) {
  clear();
  running = new AbortController();
  const { signal } = running;
  const told = byId("search-told");
  byId("search").setAttribute("aria-busy", "true");
  const slow = setTimeout(() => {
    told.textContent = "Searching …";
  }, 250);
  try {
    const found = await request(signal);
    if (signal.aborted) return;
    clearTimeout(slow);
    show(found, search, like);
  } catch (error) {
    clearTimeout(slow);
    if (error.name === "AbortError") return;
    told.textContent = lineOf(error);
    shown = null; // the same may be asked again
  } finally {
    if (!signal.aborted) byId("search").removeAttribute("aria-busy");
  }
}

function show(found, search, like) {
  const about = like || (found.asked ? `for ${/["“]/.test(found.asked) ? found.asked : `“${found.asked}”`}` : "");
  const number = found.scenes.length;
  const told = number ? `${count(number, "answer")} ${about}` : found.nothing || `Nothing is found ${about}.`;
  byId("search-told").textContent = told.trim();
  byId("search-notes").replaceChildren(...found.notes.map((note) => el("li", { text: note })));
  const nearest = found.nearest ?? [];
  if (!number) byId("search-empty").replaceChildren(...whereNothingIs(search, nearest.length > 0));
  const list = byId("scenes");
  list.classList.toggle("near", !number);
  letGo = drawScenes(list, number ? found.scenes : nearest, search);
}

/** What to do where nothing matches. */
function whereNothingIs(search, near) {
  const link = (text, to) => el("a", { class: "button", href: fragmentOf(to), text });
  const ways = [];
  if (search.q && !search.anyway && search.mode !== "text") {
    ways.push(link("Show the best anyway", { ...withoutScene(search), anyway: "true" }));
  }
  if (conditionOf(search) && search.q) ways.push(link("Without the filters", { q: search.q, archive: search.archive }));
  const line = el("p", { class: "line" }, ways);
  if (near) return [line, el("h2", { class: "nearest", text: "What comes nearest" })];
  const other = "Try other words, or an example: “More like this” on a scene, or a video of yours under “Ask a video”.";
  return [emptyState("Nothing here matches", other, line)];
}

/** Where the link to this part of the page leads: to the search that was looked at last. */
export const lastSearch = () => shown ?? "#";
