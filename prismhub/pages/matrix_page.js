"use strict";
// Tables are sorted by the buttons of their heads and filtered by the form above; a link to a benchmark opens it.

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th[data-column]")];
  const bodies = [...table.tBodies].map((body) => ({ body, rows: [...body.rows] }));
  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => {
      const numbers = head.classList.contains("number");
      const orders = numbers ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
      const order = orders[(orders.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
      const sign = order === "descending" ? -1 : 1;
      const key = (row) => row.cells[Number(head.dataset.column)].dataset.value ?? "";
      for (const { body, rows } of bodies) {
        const sorted = rows.filter((row) => !row.classList.contains("fixed"));
        if (order !== "none") {
          sorted.sort((a, b) => {
            const [x, y] = [key(a), key(b)];
            if (x === "" || y === "") return (x === "") - (y === "");  // what has no value comes last
            return sign * (numbers ? Number(x) - Number(y) : x.localeCompare(y));
          });
        }
        body.append(...rows.map((row) => (row.classList.contains("fixed") ? row : sorted.shift())));
      }
    });
  }
}

const form = document.getElementById("filter");
if (form) {
  const rows = [...document.querySelectorAll("#matrix tbody tr[data-words]")];
  const show = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [suite, state] = [form.elements.suite.value, form.elements.state.value];
    let shown = 0;
    for (const row of rows) {
      const fits = words.every((word) => row.dataset.words.includes(word)) &&
        (!suite || row.dataset.suite === suite) && (!state || row.dataset.states.split("|").includes(state));
      row.hidden = !fits;
      shown += fits;
    }
    for (const body of document.querySelectorAll("#matrix tbody")) {
      body.hidden = ![...body.rows].some((row) => row.dataset.words && !row.hidden);
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} benchmarks`;
  };
  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(show));
  show();
}

const open = () => {
  const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const whole = place?.closest("details");
  if (!whole) return;
  whole.open = true;
  place.scrollIntoView();
};
addEventListener("hashchange", open);
open();

for (const button of document.querySelectorAll("button[data-all]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    for (const one of document.querySelectorAll("details.benchmark")) one.open = button.dataset.all === "open";
  });
}
