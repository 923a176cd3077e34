// Elements and the few texts that every part of the page writes. What comes from people is only ever set as text.

/** An element with properties: `class`, `text`, `on` (listeners), `style` (CSS properties), else attributes. */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else if (name === "on") for (const [event, heard] of Object.entries(value)) made.addEventListener(event, heard);
    else if (name === "style") for (const [rule, text] of Object.entries(value)) made.style.setProperty(rule, text);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Seconds as people read them: `1:02.5`; whole ones where `short`. */
export function clock(seconds, short = false) {
  const tenths = short ? Math.round(seconds) * 10 : Math.round(seconds * 10);
  const [hours, minutes, rest] = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60, (tenths % 600) / 10];
  const tail = rest
    .toFixed(short || Number.isInteger(rest) ? 0 : 1)
    .padStart(short || Number.isInteger(rest) ? 2 : 4, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

export const span = (start, end) => `${clock(start)}-${clock(end)}`;

export const count = (number, name) => `${number.toLocaleString("en")} ${name}${number === 1 ? "" : "s"}`;

/** A line and commands to copy: what to do where there is nothing yet. */
export function emptyState(title, ...parts) {
  return el(
    "div",
    { class: "empty" },
    el("h2", { text: title }),
    ...parts.map((one) => (typeof one === "string" ? el("p", { text: one }) : one)),
  );
}

export const command = (text) => el("pre", {}, el("code", { text }));

/** Arrow keys move the focus among `items()`; only one of them is a stop of the tab key. */
export function roving(container, items) {
  container.addEventListener("focusin", (event) => {
    for (const one of items()) one.tabIndex = one === event.target ? 0 : -1;
  });
  container.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(event.target);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const to = {
      ArrowRight: at + 1,
      ArrowDown: at + 1,
      ArrowLeft: at - 1,
      ArrowUp: at - 1,
      Home: 0,
      End: all.length - 1,
    };
    const next = all[to[event.key]];
    if (!(event.key in to)) return;
    event.preventDefault();
    next?.focus();
  });
}
