// The adapters that answer, their cards, and those of the registry that could be loaded.

import { call, get, lineOf } from "./api.js";
import { byId, command, count, el, emptyState } from "./dom.js";

const MOST_LABELS = 60;
const shown = (value, unit) => (unit === "%" ? `${(100 * value).toFixed(1)} %` : value.toPrecision(4));
const tell = (text) => {
  byId("adapters-told").textContent = text;
};

/** Ask the server which adapters there are, and show them. */
export async function showAdapters(told = "") {
  try {
    draw(await get("/v1/adapters"));
    tell(told);
  } catch (error) {
    tell(lineOf(error));
  }
}

function draw(found) {
  byId("encoder").textContent = `encoder ${found.encoder.name}`;
  const names = new Set(found.adapters.map((one) => one.name));
  const free = found.available.filter((ref) => !names.has(ref.split("@")[0]));
  const about = el(
    "p",
    { class: "soft" },
    `All of them answer from one encoder: ${found.encoder.name} (${found.encoder.fingerprint.slice(0, 12)}), `,
    `which knows ${found.encoder.words ? "words" : "no words"}. `,
    found.report
      ? el("a", {
          href: found.report_page,
          target: "_blank",
          rel: "noopener",
          text: "The report of results",
        })
      : null,
  );
  const loaded = found.adapters.length
    ? el(
        "ul",
        { class: "adapters", "aria-label": "Adapters that answer" },
        found.adapters.map((one) => row(one)),
      )
    : emptyState(
        "No adapter is loaded",
        ...(free.length
          ? ["Load one of those below."]
          : [
              "Train one on folders of videos, a folder for each class, and load it here:",
              command("prismhub train --data my_videos/ --adapter map_classifier --encoder nano --name my-labels"),
            ]),
      );
  const parts = [about, loaded];
  if (free.length) {
    parts.push(
      el("h2", { text: "In the registry" }),
      el("p", { class: "soft", text: "Trained on this machine for this encoder; each answers once it is loaded." }),
      el(
        "ul",
        { class: "free", "aria-label": "Adapters that could be loaded" },
        free.map((ref) =>
          el(
            "li",
            {},
            el("span", { text: ref }),
            change("Load", ref, () => call("POST", "/v1/adapters", { body: { adapter: ref } }), `${ref} is loaded.`),
          ),
        ),
      ),
    );
  }
  byId("adapters-list").replaceChildren(...parts);
}

/** A button that changes what is loaded. */
function change(text, name, ask, done) {
  const button = el("button", {
    type: "button",
    text,
    "aria-label": `${text} ${name}`,
    on: {
      click: async () => {
        button.disabled = true;
        tell(`${text} ${name} …`);
        try {
          await ask();
          await showAdapters(done);
          byId("adapters-head").focus();
        } catch (error) {
          button.disabled = false;
          tell(lineOf(error));
        }
      },
    },
  });
  return button;
}

function row(one) {
  const card = el("div", { class: "card-of" });
  const details = el("details", {}, el("summary", { text: "Card", "aria-label": `Card of ${one.name}` }), card);
  details.addEventListener("toggle", async () => {
    if (!details.open || card.childElementCount) return;
    card.replaceChildren(el("p", { class: "soft", text: "Reading …" }));
    try {
      card.replaceChildren(...drawCard(await get(`/v1/adapters/${encodeURIComponent(one.name)}/card`)));
    } catch (error) {
      card.replaceChildren(el("p", { class: "bad", text: lineOf(error) }));
    }
  });
  const facts = [
    one.answers,
    one.labels.length ? count(one.labels.length, "label") : "",
    one.needs.length ? `needs ${one.needs.join(", ")}` : "",
    one.license && one.license !== "unknown" ? one.license : "",
  ];
  return el(
    "li",
    {},
    el(
      "div",
      { class: "headline" },
      el("h2", {}, one.name, el("span", { class: "soft", text: ` ${one.kind}` })),
      one.score === null
        ? null
        : el("span", { class: "number", text: `${one.metric} ${shown(one.score.value, one.score.unit)}` }),
      change(
        "Unload",
        one.name,
        () => call("DELETE", `/v1/adapters/${encodeURIComponent(one.name)}`),
        `${one.name} is unloaded.`,
      ),
    ),
    el("p", { class: "soft", text: facts.filter(Boolean).join(" · ") }),
    details,
  );
}

/** What an adapter says of itself. */
function drawCard(card) {
  const { features } = card;
  const videos = card.training?.videos;
  const names = card.targets?.label_names ?? [];
  const facts = {
    task: card.task,
    kind: card.kind,
    "trained on": (card.dataset || "a data set that was not named") + (videos ? `, ${count(videos, "video")}` : ""),
    encoder: features ? `${features.encoder} (${features.fingerprint.slice(0, 12)})` : "not recorded",
    features: features
      ? [
          features.kind,
          features.dtype,
          ...Object.entries(features.plan ?? {})
            .filter(([, value]) => value !== null && typeof value !== "object")
            .map(([name, value]) => `${name} ${value}`),
        ].join(", ")
      : "",
    license: card.license === "unknown" ? "" : card.license,
    seed: card.seed === null ? "" : String(card.seed),
    made: card.created.slice(0, 10),
    limits: card.card?.limits ?? "",
    labels:
      names.slice(0, MOST_LABELS).join(", ") +
      (names.length > MOST_LABELS ? `, and ${names.length - MOST_LABELS} more` : ""),
  };
  const rows = Object.entries(facts)
    .filter(([, text]) => text)
    .flatMap(([name, text]) => [el("dt", { text: name }), el("dd", { text })]);
  const judged = (card.evaluations ?? []).flatMap((scores) =>
    Object.entries(scores.values).map(([name, score]) => ({ name, score, scores })),
  );
  if (!judged.length) return [el("dl", {}, rows), el("p", { class: "soft", text: "Not evaluated." })];
  const head = ["metric", "split", "value", "95 % interval", "judged"];
  const body = judged.map(({ name, score, scores }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", text: name }),
      el("td", { text: scores.split }),
      el("td", { class: "number", text: shown(score.value, score.unit) }),
      el("td", {
        class: "number",
        text: score.low === null ? "-" : `${shown(score.low, score.unit)} to ${shown(score.high, score.unit)}`,
      }),
      el("td", { class: "number", text: scores.n_total ? `${scores.n_evaluated} of ${scores.n_total}` : "-" }),
    ),
  );
  return [
    el("dl", {}, rows),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Scores" },
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            head.map((text) => el("th", { scope: "col", text })),
          ),
        ),
        el("tbody", {}, body),
      ),
    ),
  ];
}
